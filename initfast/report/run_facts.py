"""RunFacts: when, where and with what a net was profiled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

import torch

from initfast.stats.text import dtype_name
from initfast.version import __version__


@dataclass(frozen=True)
class RunFacts:
    """When, where and with what a net was profiled.

    Attributes:
        initfast, torch: their versions.
        device: of the net's parameters, or of its inputs where it has none, as "cuda:0".
        dtype: likewise, as "float32".
        date: in UTC, as "2025-06-01T12:00:00+00:00".
        seed: torch.initial_seed() at that time.
    """

    initfast: str
    torch: str
    device: str
    dtype: str
    date: str
    seed: int


def run_facts(candidates: Iterable[torch.Tensor]) -> RunFacts:
    """The facts of a run that happens now.

    Args:
        candidates: the net's parameters, then its inputs; the first of floats tells the device
            and the dtype.
    """
    with torch._C.DisableTorchFunctionSubclass():  # a subclass may not answer, or count questions
        first = next((t for t in candidates if t.is_floating_point()), None)
    return RunFacts(
        __version__,
        str(torch.__version__),
        "" if first is None else str(first.device),
        "" if first is None else dtype_name(first.dtype),
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        torch.initial_seed(),
    )
