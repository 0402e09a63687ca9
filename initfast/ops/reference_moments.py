"""A row of moments in plain PyTorch: its columns, and what they are.

A row is one row of float64 columns, in the order of csrc/math/moments.h: ``count, nonfinite, zero,
saturated, mean, m2, min, max, nan, m3, m4, smallest``. The moments are of the finite values alone;
m2, m3 and m4 are the sums of the powers of their deviations from the mean.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initfast.ops.reference_units import units_of as units_of

COLUMNS = 12
"""How many numbers a row has."""


def row_of(x: Tensor, saturated: Tensor | None = None) -> Tensor:
    """The columns of x; saturated tells which of its values are."""
    x = x.detach()
    if x.numel() == 0:
        return _nothing(x)
    finite = torch.isfinite(x)
    value = torch.where(finite, x, torch.zeros_like(x)).double()
    count = finite.sum()
    low = torch.where(finite, value, math.inf).amin()
    high = torch.where(finite, value, -math.inf).amax()
    mean = value.sum() / count.clamp(min=1)
    mean = torch.minimum(torch.maximum(mean, low), high).where(count > 0, 0.0)
    deviation = torch.where(finite & (low < high), value - mean, 0.0)
    square = deviation.square()
    none = count.new_zeros(())
    return torch.stack(
        [
            torch.full_like(mean, x.numel()),
            (~finite).sum().double(),
            (x == 0).sum().double(),
            (none if saturated is None else saturated.sum()).double(),
            mean,
            square.sum(),
            low,
            high,
            x.isnan().sum().double(),
            (square * deviation).sum(),
            square.square().sum(),
            torch.where(value == 0, math.inf, value.abs()).amin(),
        ]
    )


def live_units(y: Tensor, unit_dim: int) -> Tensor:
    """Which units of y, along that dimension, are not zero over the whole batch."""
    nonzero = (y != 0).movedim(unit_dim, 0) if y.dim() > 0 else (y != 0)[None]
    return nonzero.flatten(1).any(1) if nonzero.dim() > 1 else nonzero.clone()


def _nothing(x: Tensor) -> Tensor:
    columns = x.new_zeros(COLUMNS, dtype=torch.float64)
    columns[6], columns[7], columns[11] = math.inf, -math.inf, math.inf
    return columns
