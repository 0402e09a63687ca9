"""The operators ``torch.ops.initfast`` as functions; see :mod:`initfast.ops.functions`."""

from __future__ import annotations

from initfast.ops.functions import (
    act,
    act_,
    activation_defaults,
    linear_act,
    moments,
    unit_moments,
)
from initfast.ops.sampler import sample_, zero_rows_

__all__ = [
    "act",
    "act_",
    "activation_defaults",
    "linear_act",
    "moments",
    "sample_",
    "unit_moments",
    "zero_rows_",
]
