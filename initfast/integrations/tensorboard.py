"""A logger for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from initfast.report.report import Report


class TensorBoardLogger:
    """Writes reports, or scalars by tag, as TensorBoard's scalars.

    Args:
        writer: torch's SummaryWriter, or the folder of a new one.

    Example:
        >>> import tempfile
        >>> from initfast.integrations.tensorboard import TensorBoardLogger
        >>> log = TensorBoardLogger(tempfile.mkdtemp())
        >>> log(initfast.profile(nn.Linear(4, 2), torch.ones(3, 4)), step=0)
    """

    def __init__(self, writer: SummaryWriter | str | Path) -> None:
        self.writer = SummaryWriter(str(writer)) if isinstance(writer, (str, Path)) else writer

    def __call__(self, values: Report | Mapping[str, float], step: int) -> None:
        """Write them for a step.

        Args:
            values: a report, or numbers by tag.
            step: of the training.
        """
        scalars = values.scalars() if isinstance(values, Report) else values
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.flush()
