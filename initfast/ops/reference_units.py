"""The moments of each unit of a tensor in plain PyTorch, as csrc/math/unit_moments.h has them.

They are four rows with a column for each unit: how many of its values are finite, and of those the
mean, the sum of the squared deviations from it (m2), and the largest magnitude. Where nothing is
finite all are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNIT_COLUMNS = 4
"""How many numbers a unit has."""


def units_of(x: Tensor, unit_dim: int) -> Tensor:
    """``[4, units]`` float64: count, mean, m2 and largest of each unit, about its first value."""
    x = x.detach()
    if x.dim() == 0:
        x = x[None]
    by_unit = x.movedim(unit_dim, -1)
    values = by_unit.reshape(by_unit.shape[:-1].numel(), by_unit.shape[-1]).double()
    if not len(values):
        return values.new_zeros(UNIT_COLUMNS, values.shape[-1])
    finite = torch.isfinite(values)
    count = finite.sum(0)
    first = torch.where(finite[0], values[0], 0.0)
    deviations = torch.where(finite, values - first, 0.0)
    shift = deviations.sum(0) / count.clamp(min=1)
    m2 = torch.where(finite, deviations - shift, 0.0).square().sum(0)
    mean = torch.where(count > 0, first + shift, 0.0)
    largest = torch.where(finite, values.abs(), 0.0).amax(0)
    return torch.stack([count.double(), mean, m2, largest])
