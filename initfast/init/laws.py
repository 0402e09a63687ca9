"""Laws: what numbers a key makes of a shard's memory.

The arguments are right, and the memory is plain: see :mod:`initfast.init.drawing`. Complex tensors
are pairs of real numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from initfast.init.drawing import law
from initfast.init.placement import Shard
from initfast.ops.quantile_tables import truncated_normal

_CONTIGUOUS = torch.contiguous_format
_DIMENSIONS = 16  # csrc/binding/sample_arguments.h has room for so many
_FAR = 1e8  # standard deviations; no probability is left beyond that float64 could hold
_PARTS = {
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}


@law
def uniform(shard: Shard, key: int, a: float, b: float) -> None:
    """The uniform distribution on [a, b), in whatever dtype the numbers are kept."""
    kept = _PARTS.get(shard.local.dtype, shard.local.dtype)
    dtype = _computed(shard.local)
    bits = torch.finfo(dtype).bits
    top = _round(b, dtype)
    if top > _round(a, dtype):
        top = _below(top, dtype)
    if kept != dtype and _round(b, kept) > _round(a, kept):  # what would be rounded to b
        top = min(top, _below(_round(b, kept), kept))
    # One step of the words is width / 2^bits. Where that is subnormal it would have few bits, or
    # none: so narrow an interval is drawn wider, and made narrow by a power of two. (float16 has no
    # number so small.)
    lift = 0
    if 0 < b - a < math.ldexp(torch.finfo(dtype).tiny, bits) and kept != torch.float16:
        lift = 2 * bits
        a, b, top = (math.ldexp(x, lift) for x in (a, b, top))
    _draw(shard, Distribution("uniform", None, math.ldexp(b - a, -bits), (a + b) / 2, a, top), key)
    if lift:
        shard.local.mul_(math.ldexp(1.0, -lift))


@law
def normal(shard: Shard, key: int, mean: float, std: float) -> None:
    """The normal distribution.

    A complex number's parts have half the variance each, and the mean is added to the real part.
    """
    table = truncated_normal(-math.inf, math.inf, _computed(shard.local)).coefficients
    if shard.local.is_complex():
        _draw(shard, Distribution("symmetric", table, std / math.sqrt(2), 0.0), key)
        if mean != 0:
            shard.local.real.add_(mean)
    else:
        _draw(shard, Distribution("symmetric", table, std, mean), key)


class Bounds(NamedTuple):
    """What a normal distribution is truncated to.

    a, b: the bounds. low, high: the same in standard deviations from the mean.
    """

    a: float
    b: float
    low: float
    high: float

    @classmethod
    def of(cls, mean: float, std: float, a: float, b: float, in_sigma: bool = False) -> Bounds:
        """From either form, the other."""
        mean, std, a, b = map(float, (mean, std, a, b))
        if std == 0:
            return cls(mean, mean, a, b) if in_sigma else cls(a, b, -math.inf, math.inf)
        if in_sigma:
            return cls(mean + a * std, mean + b * std, a, b)
        return cls(a, b, (a - mean) / std, (b - mean) / std)


@law
def truncated(shard: Shard, key: int, mean: float, std: float, *bounds: float) -> None:
    """The normal distribution truncated to those Bounds.

    By the inverse of the distribution function: one pass, whatever the bounds.
    """
    a, b, low, high = bounds
    if high > _FAR and low < high / 2:
        high = math.inf
    if low < -_FAR and high > low / 2:
        low = -math.inf
    # What is left may be one point.
    if std == 0 or a == b or low == math.inf or high == -math.inf:
        shard.local.fill_(min(max(mean, a), b))
        return
    if (high - low) * max(1.0, abs(low), abs(high)) < 1e-7:  # flat to the last bit of float32
        uniform(shard, key, a, b)
        return
    table, shape, origin = truncated_normal(low, high, _computed(shard.local))
    location = {"low": a, "high": b, "mean": mean}[origin]
    _draw(shard, Distribution(shape, table, std, location, a, b), key)


class Distribution(NamedTuple):
    """What a number is drawn from: :func:`initfast.ops.sample_` says what each part means."""

    shape: str
    table: Tensor | None
    scale: float
    location: float
    low: float = -math.inf
    high: float = math.inf


def _draw(shard: Shard, distribution: Distribution, key: int) -> None:
    local, offset, strides = shard.local, shard.offset, shard.strides
    # The sampler writes through strides: not through conjugate bits, nor too many.
    direct = not local.is_conj() and local.dim() < _DIMENSIONS
    drawn = local if direct else torch.empty_like(local, memory_format=_CONTIGUOUS)
    out = drawn
    if local.is_complex():
        out, offset = torch.view_as_real(drawn), 2 * offset
        strides = (*(2 * s for s in strides), 1)
    torch.ops.initfast.sample_(out, *distribution, key, offset, list(strides))
    if not direct:
        local.copy_(drawn)


def _computed(tensor: Tensor) -> torch.dtype:
    """The dtype that a tensor's numbers are computed in."""
    return torch.float64 if tensor.dtype in (torch.float64, torch.complex128) else torch.float32


def _round(value: float, dtype: torch.dtype) -> float:
    if dtype == torch.float64:
        return value
    if dtype == torch.float32:
        return float(np.float32(value))
    return torch.tensor(value, dtype=torch.float32).to(dtype).item()


def _below(value: float, dtype: torch.dtype) -> float:
    """The next number of that dtype downwards."""
    if dtype == torch.float64:
        return math.nextafter(value, -math.inf)
    if dtype == torch.float32:
        return float(np.nextafter(np.float32(value), np.float32(-np.inf)))
    number = torch.tensor(value, dtype=dtype)
    return torch.nextafter(number, torch.tensor(-math.inf, dtype=dtype)).item()
