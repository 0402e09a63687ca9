"""A logger for Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wandb

from initfast.report.report import Report


class WandbLogger:
    """Logs reports, or scalars by tag, to a run of W&B.

    Args:
        run: what `wandb.init()` returned; None: the run that is active.

    Raises:
        RuntimeError: no run is given, and none is active.
    """

    def __init__(self, run: Any = None) -> None:
        self.run = wandb.run if run is None else run
        if self.run is None:
            raise RuntimeError("WandbLogger: no run is active; call wandb.init first, or give one")

    def __call__(self, values: Report | Mapping[str, float], step: int) -> None:
        """Log them for a step, all in one call.

        Args:
            values: a report, or numbers by tag.
            step: of the training.
        """
        scalars = values.scalars() if isinstance(values, Report) else values
        self.run.log(dict(scalars), step=step)
