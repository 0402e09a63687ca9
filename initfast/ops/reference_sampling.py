"""The sampler in plain PyTorch: the specification of its bits, and the fallback on any device.

Integers are int64 throughout, 32-bit words in their low half; floating-point operations are the
ones that IEEE 754 rounds exactly. csrc/math/philox.h and csrc/math/distribution.h do the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from initfast.ops.checks import check_dtype
from initfast.ops.quantile_tables import DEGREE, OCTAVES

Word = TypeVar("Word", Tensor, int)

_HALVES = {"symmetric": 1, "skewed": 2, "one_sided": 1}
_CHUNK = 1 << 18  # elements at a time, so that the scratch tensors stay small
_WORD = 0xFFFFFFFF
PRODUCTS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox(counter: Sequence[Word], key: int) -> tuple[Word, Word, Word, Word]:
    """Philox4x32-10 (Salmon et al. 2011).

    Args:
        counter: four words, int64 tensors of one shape (or Python integers), values below 2^32.
        key: 64 bits, signed or not.

    Returns:
        Four words likewise.

    Example:
        >>> [hex(word) for word in philox((0, 0, 0, 0), 0)]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key & _WORD, key >> 32 & _WORD
    for _ in range(10):
        p0, p1 = c0 * PRODUCTS[0], c2 * PRODUCTS[1]
        c0, c1, c2, c3 = (
            (p1 >> 32 & _WORD) ^ c1 ^ k0,
            p1 & _WORD,
            (p0 >> 32 & _WORD) ^ c3 ^ k1,
            p0 & _WORD,
        )
        k0, k1 = k0 + KEY_STEPS[0] & _WORD, k1 + KEY_STEPS[1] & _WORD
    return c0, c1, c2, c3


def stream_words(index: Tensor, key: int, bits: int) -> Tensor:
    """The words of the elements at these indices.

    Args:
        index: int64, any shape, not negative.
        key: 64 bits.
        bits: 32 or 64, the size of a word.

    Returns:
        int64 like index: signed integers of that many bits.
    """
    per_block = 128 // bits
    block = torch.div(index, per_block, rounding_mode="floor")
    zero = torch.zeros_like(block)
    words = torch.stack(philox((block & _WORD, block >> 32, zero, zero), key), -1)
    place = (index % per_block).unsqueeze(-1)
    if bits == 32:
        word = words.gather(-1, place).squeeze(-1)
        return word - ((word >> 31) << 32)
    return (words[..., 0::2] | words[..., 1::2] << 32).gather(-1, place).squeeze(-1)


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a * b + c, rounded once; float32 or float64, no overflow but that of the result.

    The exact product and sum are carried as a rounded value and its error. Where there is an error,
    the last bit of the value is forced to one ("round to odd": Boldo & Melquiond 2008, "Emulation
    of FMA and correctly rounded sums"), so that the final rounding cannot err.
    """
    if a.dtype == torch.float32:
        return _odd_sum(a.double() * b.double(), c.double()).float()
    high, low = _two_product(a, b)
    upper, error = _two_sum(c, low)
    total, rest = _two_sum(high, upper)
    overflowed = a * b + c  # infinite or NaN: there is nothing to round
    return torch.where(overflowed.isfinite(), total + _odd_sum(error, rest), overflowed)


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    product = a * b
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _split(a: Tensor) -> tuple[Tensor, Tensor]:
    """Two halves of 26 bits each, whose sum is a: products of halves are exact."""
    high = ((a.view(torch.int64) + (1 << 26)) & -(1 << 27)).view(torch.float64)
    return high, a - high


def _odd_sum(a: Tensor, b: Tensor) -> Tensor:
    total, error = _two_sum(a, b)
    bits = total.view(torch.int64)
    inexact = (error != 0) & (bits & 1 == 0) & total.isfinite()
    step = torch.where((error > 0) == (total > 0), 1, -1)
    return torch.where(inexact, bits + step, bits).view(torch.float64)


def quantile(word: Tensor, table: Tensor, shape: str) -> Tensor:
    """x of each word through a table of the inverse distribution function.

    Args:
        word: int64, signed integers of 32 bits (64 for a float64 table).
        table: ``[1 or 2, degree + 1, octaves]``; see :mod:`initfast.ops.quantile_tables`.
        shape: the table's: "symmetric", "skewed" or "one_sided".

    Returns:
        x of the table's dtype, like word.
    """
    _, terms, octaves = table.shape
    fraction_bits, integer = (52, torch.int64) if octaves == 64 else (23, torch.int32)
    v = word.abs().to(table.dtype).view(integer)
    octave = (v >> fraction_bits & octaves - 1).long()
    one = torch.ones((), dtype=table.dtype, device=word.device)
    fraction = (v & (1 << fraction_bits) - 1 | one.view(integer)).view(table.dtype) - 1.5
    half = torch.where(word < 0, 0, 1) if shape == "skewed" else torch.zeros_like(word)
    x = table[half, 0, octave]
    for d in range(1, terms):
        x = fma(x, fraction, table[half, d, octave])
    return torch.where(word < 0, -x, x) if shape == "symmetric" else x


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
    """Fill `out` from the stream of `key`; see :func:`initfast.ops.sample_`."""
    out = out.data  # its version is counted once, by the caller
    dtype = torch.float64 if out.dtype == torch.float64 else torch.float32
    bits = torch.finfo(dtype).bits
    check_sample(out, shape, table, dtype, strides)
    table = table if table is None else table.to(out.device)
    numbers = [
        torch.tensor(p, dtype=dtype, device=out.device) for p in (scale, location, low, high)
    ]
    for place, index in _chunks(out, offset, strides):
        word = stream_words(index, key, bits)
        x = word.to(dtype) if table is None else quantile(word, table, shape)
        value = fma(x, numbers[0], numbers[1])
        value = torch.where(value < numbers[2], numbers[2], value)
        value = torch.where(value > numbers[3], numbers[3], value)
        if place is None:
            out.copy_(value.reshape(out.shape))
        else:
            out[place] = value.to(out.dtype)


def check_sample(
    out: Tensor, shape: str, table: Tensor | None, dtype: torch.dtype, strides: Sequence[int]
) -> None:
    """Raise RuntimeError unless these are arguments of sample_ that belong together."""
    check_dtype(out, "sample_", "out")
    if shape not in ("uniform", *_HALVES):
        raise RuntimeError(
            f"initfast::sample_: shape is '{shape}'; "
            "expected uniform, symmetric, skewed or one_sided"
        )
    if len(strides) != out.dim():
        raise RuntimeError(
            f"initfast::sample_: {len(strides)} strides for out of shape {tuple(out.shape)}"
        )
    if shape == "uniform":
        return
    expected = (_HALVES[shape], DEGREE[dtype] + 1, OCTAVES[dtype])
    if table is None or table.dtype != dtype or tuple(table.shape) != expected:
        raise RuntimeError(f"initfast::sample_: expected a table of shape {expected}, {dtype}")


def zero_rows_(
    out: Tensor, count: int, key: int, rows: int, first_row: int, first_col: int
) -> None:
    """Zero `count` elements of each column; see :func:`initfast.ops.zero_rows_`."""
    check_dtype(out, "zero_rows_", "out")
    if not (
        out.dim() == 2
        and 0 <= first_row <= rows - out.shape[0]
        and 0 <= first_col
        and 0 <= count <= rows
    ):
        raise RuntimeError(
            f"initfast::zero_rows_: out has shape {list(out.shape)} from row {first_row} and "
            f"column {first_col} on, and count is {count}; expected a part of a matrix of {rows} "
            "rows, and no more zeros than rows"
        )
    out = out.data  # its version is counted once, by the caller
    held, cols = out.shape
    column = torch.arange(cols, device=out.device)
    chosen = torch.zeros((rows, cols), dtype=torch.bool, device=out.device)
    for last in range(rows - count, rows):
        word = stream_words((first_col + column) * rows + last, key, 32) & _WORD
        row = word * (last + 1) >> 32
        row = torch.where(chosen[row, column], last, row)
        chosen[row, column] = True
    out.masked_fill_(chosen[first_row : first_row + held], 0)


def _chunks(
    out: Tensor, offset: int, strides: Sequence[int]
) -> Iterator[tuple[tuple[Tensor, ...] | None, Tensor]]:
    """Places in `out` (None: all of it) and the global indices of the elements there."""
    for start in range(0, out.numel(), _CHUNK):
        rest = torch.arange(start, min(start + _CHUNK, out.numel()), device=out.device)
        index = torch.full_like(rest, offset)
        place = []
        for size, stride in zip(reversed(out.shape), reversed(strides), strict=True):
            place.append(rest % size)
            index += place[-1] * stride
            rest = torch.div(rest, size, rounding_mode="floor")
        yield (tuple(reversed(place)) if out.numel() > _CHUNK else None), index
