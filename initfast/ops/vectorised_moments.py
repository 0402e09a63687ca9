"""Moments in the CPU's memory without native kernels: the same numbers, in few steps.

:mod:`initfast.ops.reference_moments` says what the columns are, and
:mod:`initfast.ops.reference_units` what those of units are. Here runs of values that stay in cache
are widened to float64 and their powers summed by inner products; runs are merged about the mean of
all. A net has many small tensors, for which the number of steps counts, not the values.

Integers, extremes and `smallest` are the specification's; the mean and the sums of powers differ
by the order of float64 sums alone: by less than 1e-12 of the sum of the magnitudes that are added.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from initfast.ops import reference_units
from initfast.ops.reference_units import UNIT_COLUMNS

_RUN = 8192  # values; the inner product of more may run on several threads, to other bits
_SPAN = 65_536  # values whose units are measured at once, from cache
_add, _least, _most = np.add.reduce, np.minimum.reduce, np.maximum.reduce


class _Room(threading.local):
    """Memory for a run of values and for their squares: what is used again needs no new pages."""

    def __init__(self) -> None:
        self.values, self.squares = np.empty(_RUN), np.empty(_RUN)

    def widen(self, x: Tensor) -> np.ndarray:
        """A run of x, as float64."""
        values = self.values[: len(x)]
        torch.from_numpy(values).copy_(x)
        return values


_room = _Room()


def row_of(x: Tensor, saturated: Tensor | None = None) -> Tensor:
    """The columns of x; saturated tells which of its values are."""
    flat = x.detach().reshape(-1)
    count, nan = len(flat), 0
    numbers = _of_finite(flat)
    if numbers is None:
        nan = int(flat.isnan().sum())
        flat = flat[flat.isfinite()]
        numbers = _of_finite(flat)
    assert numbers is not None
    zero, *moments, m3, m4, smallest = numbers
    of_saturated = 0 if saturated is None else np.count_nonzero(saturated.numpy())
    columns = [count, count - len(flat), zero, of_saturated, *moments, nan, m3, m4, smallest]
    return torch.from_numpy(np.array(columns, dtype=np.float64))


def units_of(x: Tensor, unit_dim: int) -> Tensor:
    """``[4, units]`` float64: count, mean, m2 and largest of each unit."""
    shape = tuple(x.shape) or (1,)
    dim = unit_dim % len(shape)
    units, places = shape[dim], math.prod(shape[dim + 1 :])
    values = x.detach().reshape(math.prod(shape[:dim]), units, places)
    size = values.numel()
    if 0 < size <= _SPAN:
        rows = _of_units(_wide(values))
    elif units > 1 and units * places > _SPAN:
        blocks = values.split(max(1, _SPAN // places), 1)
        return torch.cat([units_of(block, 1) for block in blocks], 1)
    else:
        rows = _merged_units(values.split(max(1, _SPAN // (units * places)))) if size else None
    return reference_units.units_of(x, unit_dim) if rows is None else torch.from_numpy(rows)


def live_units(y: Tensor, unit_dim: int) -> Tensor:
    """Which units of y, along that dimension, are not zero over the whole batch."""
    nonzero = (y != 0).reshape(1) if y.dim() == 0 else y != 0
    units = unit_dim % nonzero.dim()
    others = tuple(dim for dim in range(nonzero.dim()) if dim != units)
    return torch.from_numpy(nonzero.numpy().any(others))


def _wide(x: Tensor) -> np.ndarray:
    """A copy of x in float64.

    After Tensor.numpy() torch would never resize x's own storage, as FSDP does.
    """
    return x.to(torch.float64, copy=True).numpy()


def _of_finite(x: Tensor) -> tuple[float, ...] | None:
    """How many are zero, the moments, and `smallest`; None where a value is not finite."""
    n = len(x)
    if n == 0:
        return 0, 0.0, 0.0, math.inf, -math.inf, 0.0, 0.0, math.inf
    values = _room.widen(x) if n <= _RUN else None
    extremes = _extremes_of_many(x) if values is None else _extremes(values)
    if extremes is None:
        return None
    low, high, zero, smallest = extremes
    if low == high:
        mean, m2, m3, m4 = low, 0.0, 0.0, 0.0
    elif values is not None:
        mean, m2, m3, m4 = _powers(values, low, high)
    else:
        mean, m2, m3, m4 = _merged_powers(x, low, high)
    return zero, mean, m2, low, high, m3, m4, smallest


def _extremes(values: np.ndarray) -> tuple[float, float, int, float] | None:
    """Minimum, maximum, how many are zero, and the smallest magnitude but zero, of a run."""
    low, high = float(_least(values)), float(_most(values))  # of NaN: NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    magnitude = np.absolute(values, _room.squares[: len(values)])
    smallest = float(_least(magnitude))
    if smallest > 0:
        return low, high, 0, smallest
    nonzero = magnitude[magnitude > 0]
    return low, high, len(values) - len(nonzero), float(_least(nonzero, initial=math.inf))


def _extremes_of_many(x: Tensor) -> tuple[float, float, int, float] | None:
    """As _extremes, from as many bytes as x has, not those of float64."""
    low, high = (float(end) for end in x.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    magnitude = x.abs()
    smallest = float(magnitude.amin())
    if smallest > 0:
        return low, high, 0, smallest
    is_zero = magnitude == 0
    smallest = float(magnitude.masked_fill_(is_zero, math.inf).amin())
    return low, high, int(is_zero.sum()), smallest


def _powers(values: np.ndarray, low: float, high: float) -> tuple[float, float, float, float]:
    """The mean of a run, which is used up, and the sums of the powers of what differs from it."""
    mean = float(_add(values)) / len(values)
    mean = low if mean < low else high if mean > high else mean  # min and max take longer
    values -= mean
    square = np.multiply(values, values, _room.squares[: len(values)])
    return mean, values.dot(values), square.dot(values), square.dot(square)


def _merged_powers(x: Tensor, low: float, high: float) -> tuple[float, float, float, float]:
    """As _powers, of many runs."""
    parts = x.split(_RUN)
    n = np.array([float(len(part)) for part in parts])
    runs = np.array([_powers(_room.widen(part), low, high) for part in parts])
    means, m2, m3, m4 = runs.T
    mean = min(max(n.dot(means) / n.sum(), low), high)
    d = means - mean
    m4 = m4 + d * (4 * m3 + d * (6 * m2 + n * d * d))
    m3 = m3 + d * (3 * m2 + n * d * d)
    return mean, (m2 + n * d * d).sum(), m3.sum(), m4.sum()


def _of_units(values: np.ndarray) -> np.ndarray | None:
    """The four rows of the units of [rows, units, places], which are used up.

    None where a value is not finite.
    """
    over, count = (0, 2), values.shape[0] * values.shape[2]
    found = np.empty((UNIT_COLUMNS, values.shape[1]))
    found[0] = count
    magnitude = np.absolute(values)
    if not math.isfinite(_most(_most(magnitude, over, out=found[3]))):
        return None
    mean = values[:1, :, :1].copy()
    values -= mean
    shift = _add(values, over, keepdims=True) / count
    values -= shift
    _add(np.multiply(values, values, magnitude), over, out=found[2])
    np.add(mean, shift, found[1].reshape(mean.shape))
    return found


def _merged_units(parts: Sequence[Tensor]) -> np.ndarray | None:
    """As _of_units, of all parts, whose means are taken less the first: no difference stays 0."""
    spans = [_of_units(_wide(part)) for part in parts]
    if any(span is None for span in spans):
        return None
    count, means, m2, largest = np.array(spans).swapaxes(0, 1)
    d = means - means[0]
    total = count.sum(0)
    shift = (count * d).sum(0) / total
    d -= shift
    m2 = (m2 + count * d * d).sum(0)
    return np.array([total, means[0] + shift, m2, largest.max(0)])
