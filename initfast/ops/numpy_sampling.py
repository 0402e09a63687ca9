"""The sampler for the CPU without native kernels: the reference's bits, several times as fast.

Four numbers come from one block of Philox, which the reference computes for each of them. A fused
multiply-add of float32 is done in float64, and again by the reference in the rare case where its
second rounding could tell. Arrays are small enough for a core's own cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from initfast.ops import reference_sampling
from initfast.ops.quantile_tables import OCTAVES

_BLOCKS = 1 << 12  # of four words each, at a time
_PRODUCTS = tuple(np.uint64(p) for p in reference_sampling.PRODUCTS)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_BELOW_FLOAT32 = np.int64((1 << 29) - 1)
_TIE = np.int64(1 << 28)
_LEAST_NORMAL = 2.0**-126
_OCTAVE = OCTAVES[torch.float32] - 1
_FRACTION = np.int32((1 << 23) - 1)
_ONE = np.int32(0x3F800000)

Array = np.ndarray[Any, np.dtype[Any]]


def sample_(
    out: Tensor,
    shape: str,
    table: Tensor | None,
    scale: float,
    location: float,
    low: float,
    high: float,
    key: int,
    offset: int,
    strides: Sequence[int],
) -> None:
    """Fill `out`, in the CPU's memory, from the stream of `key`.

    As :func:`initfast.ops.reference_sampling.sample_`, which does what this does not: float64, and
    a part of a larger tensor whose numbers do not follow each other in the stream.
    """
    numbers = scale, location, low, high
    if out.dtype == torch.float64 or list(strides) != _dense(out.shape):
        reference_sampling.sample_(out, shape, table, *numbers, key, offset, strides)
        return
    reference_sampling.check_sample(out, shape, table, torch.float32, strides)
    ours = _Numbers(shape, table, *numbers)
    out = out.data  # its version is counted once, by the caller
    dense = out if out.is_contiguous() else torch.empty(out.shape, dtype=out.dtype)
    flat, step = dense.view(-1), 4 * _BLOCKS
    with np.errstate(all="ignore"):
        first = offset - offset % step
        for start in range(first, offset + out.numel(), step):
            a, b = max(start, offset), min(start + step, offset + out.numel())
            words = _words(start // 4, -(-(b - start) // 4), key)[a - start : b - start]
            flat[a - offset : b - offset] = torch.from_numpy(ours.of(words))
    if dense is not out:
        out.copy_(dense)


def _dense(shape: Sequence[int]) -> list[int]:
    """The strides of the elements of a whole tensor, in their order."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _words(first: int, count: int, key: int) -> Array:
    """The words of so many blocks, as signed integers of 32 bits."""
    counter = np.arange(first, first + count, dtype=np.uint64)
    c0, c1 = counter & _LOW, counter >> _HALF
    c2, c3 = np.zeros_like(c0), np.zeros_like(c0)
    p0, p1 = np.empty_like(c0), np.empty_like(c0)
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    for _ in range(10):
        np.multiply(c0, _PRODUCTS[0], out=p0)
        np.multiply(c2, _PRODUCTS[1], out=p1)
        np.right_shift(p1, _HALF, out=c0)
        c0 ^= c1
        c0 ^= np.uint64(k0)
        np.right_shift(p0, _HALF, out=c2)
        c2 ^= c3
        c2 ^= np.uint64(k1)
        np.bitwise_and(p1, _LOW, out=c1)
        np.bitwise_and(p0, _LOW, out=c3)
        k0, k1 = (
            k0 + reference_sampling.KEY_STEPS[0] & 0xFFFFFFFF,
            k1 + reference_sampling.KEY_STEPS[1] & 0xFFFFFFFF,
        )
    words = np.empty((count, 4), np.uint32)
    for place, word in enumerate((c0, c1, c2, c3)):
        words[:, place] = word
    return words.reshape(-1).view(np.int32)


class _Numbers:
    """float32 numbers of a distribution from words."""

    def __init__(
        self,
        shape: str,
        table: Tensor | None,
        scale: float,
        location: float,
        low: float,
        high: float,
    ) -> None:
        self._shape = shape
        terms = None if table is None else table.transpose(0, 1).flatten(1)
        self._terms = None if terms is None else terms.double().numpy()
        with np.errstate(over="ignore"):  # a bound far away becomes infinite
            ends = np.array([scale, location, low, high], np.float32)
        self._scale, self._location, self._low, self._high = ends

    def of(self, words: Array) -> Array:
        """One for each word."""
        x = words.astype(np.float32) if self._terms is None else self._quantile(words, self._terms)
        value = _fma(x, np.float64(self._scale), np.float64(self._location))
        if self._low > -math.inf:
            np.copyto(value, self._low, where=value < self._low)
        if self._high < math.inf:
            np.copyto(value, self._high, where=value > self._high)
        return value

    def _quantile(self, words: Array, terms: Array) -> Array:
        """As the reference's: a polynomial for each octave of the tail probability."""
        bits = np.abs(words.astype(np.float32)).view(np.int32)
        place = (bits >> 23 & _OCTAVE).astype(np.intp)
        if self._shape == "skewed":
            place += np.where(words < 0, 0, _OCTAVE + 1)
        fraction = (((bits & _FRACTION) | _ONE).view(np.float32) - np.float32(1.5)).astype(float)
        x = terms[0].take(place).astype(np.float32)
        for term in terms[1:]:
            x = _fma(x, fraction, term.take(place))
        if self._shape == "symmetric":
            np.negative(x, out=x, where=words < 0)
        return x


def _fma(a: Array, b: Array | np.float64, c: Array | np.float64) -> Array:
    """a * b + c rounded once to float32; b and c are float32 numbers in float64, or one for all.

    The product is exact in float64, and the sum is rounded twice. That errs only where the first
    rounding loses something (Knuth's two-sum) and ends in the middle of two float32 numbers, or
    where those are subnormal.
    """
    total = a.astype(float)
    total *= b
    total += c
    result: Array = total.astype(np.float32)
    doubt = (total.view(np.int64) & _BELOW_FLOAT32) == _TIE
    np.abs(total, out=total)
    if total.size and total.min() < _LEAST_NORMAL:
        doubt |= (total < _LEAST_NORMAL) & (total > 0)
    if doubt.any():
        at = np.flatnonzero(doubt)
        factor, other, summand = (np.broadcast_to(t, a.shape)[at] for t in (a, b, c))
        product = factor.astype(float) * other
        once = product + summand
        part = once - product
        lost = (product - (once - part)) + (summand - part) != 0
        if lost.any():
            exact = (torch.from_numpy(t[lost].astype(np.float32)) for t in (factor, other, summand))
            result[at[lost]] = reference_sampling.fma(*exact).numpy()
    return result
