"""Rows of moments in the CPU's memory without native kernels: the same numbers, fast.

:mod:`initfast.ops.reference_moments` says what the columns are. Here runs of values that stay in
cache are widened to float64 and their powers summed by inner products; runs are merged about the
mean of all. Magnitudes are compared as the integers that their bits are, whose order is theirs.

Integers, extremes and `smallest` are the specification's; the mean and the sums of powers differ
by the order of float64 sums alone: by less than 1e-12 of the sum of the magnitudes that are added.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

_RUN = 8192  # values; the inner product of more may run on several threads, to other bits


def row_of(x: Tensor, saturated: Tensor | None = None) -> Tensor:
    """The columns of x; saturated tells which of its values are."""
    x = x.detach()
    wide = (x if x.dtype == torch.float64 else x.float()).resolve_neg().reshape(-1).contiguous()
    values = _values(wide)
    count, nan = len(values), 0
    numbers = _of_finite(values)
    if numbers is None:
        nan = int(np.count_nonzero(np.isnan(values)))
        values = values[np.isfinite(values)]
        numbers = _of_finite(values)
    assert numbers is not None
    zero, *moments, m3, m4, smallest = numbers
    of_saturated = 0 if saturated is None else np.count_nonzero(saturated.numpy())
    columns = [count, count - len(values), zero, of_saturated, *moments, nan, m3, m4, smallest]
    return torch.from_numpy(np.array(columns, dtype=np.float64))


def live_units(y: Tensor, unit_dim: int) -> Tensor:
    """Which units of y, along that dimension, are not zero over the whole batch."""
    nonzero = (y != 0).reshape(1) if y.dim() == 0 else y != 0
    units = unit_dim % nonzero.dim()
    others = tuple(dim for dim in range(nonzero.dim()) if dim != units)
    return torch.from_numpy(nonzero.numpy().any(others))


def _values(x: Tensor) -> np.ndarray:
    """The memory of x, contiguous, for as long as x lives.

    After Tensor.numpy() torch would never resize the storage, as FSDP does.
    """
    if not x.numel():
        return np.empty(0)
    kind: Any = ctypes.c_float if x.dtype == torch.float32 else ctypes.c_double
    return np.ctypeslib.as_array((kind * x.numel()).from_address(x.data_ptr()))


def _of_finite(values: np.ndarray) -> tuple[float, ...] | None:
    """How many are zero, the moments, and `smallest`; None where a value is not finite."""
    if len(values) == 0:
        return 0, 0.0, 0.0, math.inf, -math.inf, 0.0, 0.0, math.inf
    low, high = float(values.min()), float(values.max())  # of NaN: NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    zero = len(values) - int(np.count_nonzero(values != 0)) if low <= 0 <= high else 0
    mean, m2, m3, m4 = _powers(values, low, high) if low < high else (low, 0.0, 0.0, 0.0)
    return zero, mean, m2, low, high, m3, m4, _smallest(values)


def _powers(values: np.ndarray, low: float, high: float) -> tuple[float, ...]:
    """The mean, and the sums of the second to fourth power of the deviations from it."""
    wide = np.empty(min(_RUN, len(values)))
    squares, runs = np.empty_like(wide), []
    add, multiply = np.add.reduce, np.multiply
    for begin in range(0, len(values), _RUN):
        n = min(_RUN, len(values) - begin)
        d, square = wide[:n], squares[:n]
        d[:] = values[begin : begin + n]
        mean = add(d) / n
        mean = low if mean < low else high if mean > high else mean  # min and max take longer
        d -= mean
        multiply(d, d, square)
        runs.append((n, mean, d.dot(d), square.dot(d), square.dot(square)))
    if len(runs) == 1:
        return runs[0][1:]
    n, means, m2, m3, m4 = np.array(runs).T
    mean = min(max(n.dot(means) / len(values), low), high)
    d = means - mean
    m4 = m4 + d * (4 * m3 + d * (6 * m2 + n * d * d))
    m3 = m3 + d * (3 * m2 + n * d * d)
    return mean, (m2 + n * d * d).sum(), m3.sum(), m4.sum()


def _smallest(values: np.ndarray) -> float:
    """The smallest magnitude but zero; infinity where all are zero."""
    integer = np.dtype(f"u{values.itemsize}").type
    magnitude = integer(np.iinfo(integer).max >> 1)
    bits = values.view(integer) & magnitude
    bits -= integer(1)  # zero's wrap around to the largest
    least = bits.min()
    return math.inf if least > magnitude else float((least + integer(1)).view(values.dtype))
