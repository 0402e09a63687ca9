"""A 64-bit hash of a tensor's bits: the same on every device and for every layout in memory.

One read sums the 64-bit words of each block of 256 rows by columns; the sums, 256 times fewer, are
then mixed with their places (the finaliser of MurmurHash3, Appleby 2011) and added. All arithmetic
is modulo 2^64, in which the order of a sum does not matter. It tells tensors apart that differ by
chance or by a rounding; it is no defence against an adversary.
"""

from __future__ import annotations

import torch
from torch import Tensor

COLUMNS, ROWS = 1024, 256
"""Words in a row, and rows in a block: a block is 2 MiB."""

_GOLDEN = -0x61C8864680B583EB  # 2^64 over the golden ratio, as a signed number
_MIXERS = (-0x00AE502812AA7333, -0x3B314601E57A13AD)


def bit_hash(x: Tensor) -> int:
    """The hash of a tensor's elements, row by row.

    Args:
        x: a dense tensor with values, of any dtype, shape, strides and device.

    Returns:
        From 0 to 2^64 - 1, 0 of an empty tensor. Tensors of equal bits and element size have equal
        hashes, whatever their shape; others have the same with a probability of about 2^-64.

    Example:
        >>> bit_hash(torch.arange(6)) == bit_hash(torch.arange(6).view(3, 2).t().contiguous().t())
        True
    """
    if x.numel() == 0:
        return 0
    words = _words(x.detach())
    whole = words.numel() // COLUMNS * COLUMNS
    blocks = whole // (COLUMNS * ROWS) * (COLUMNS * ROWS)
    sums = [words[:blocks].view(-1, ROWS, COLUMNS).sum(1).flatten()] if blocks else []
    if whole > blocks:
        sums.append(words[blocks:whole].view(-1, COLUMNS).sum(0))
    sums.append(words[whole:])
    found = _mixed(torch.cat(sums))
    return (found + x.numel() * _GOLDEN) % (1 << 64)


def _words(x: Tensor) -> Tensor:
    """The bits as 64-bit integers, a rest of fewer filled up with zeros."""
    x = x.resolve_conj().resolve_neg().reshape(-1)
    data = (x if x.stride(0) == 1 else x.clone(memory_format=torch.contiguous_format)).view(
        torch.uint8
    )
    rest = data.numel() % 8
    if rest:
        data = torch.cat([data, data.new_zeros(8 - rest)])
    if data.storage_offset() % 8:
        data = data.clone()
    return data.view(torch.int64)


def _mixed(sums: Tensor) -> int:
    place = torch.arange(1, len(sums) + 1, device=sums.device)
    mixed = sums + place * _GOLDEN
    for mixer in _MIXERS:
        mixed = (mixed ^ ((mixed >> 33) & 0x7FFFFFFF)) * mixer
    return int((mixed ^ ((mixed >> 33) & 0x7FFFFFFF)).sum())
