"""The logits of attention, measured by torch's operators in blocks, on whatever device they are.

A row of the weights needs all its logits at once, so a block is some rows of all keys: no tensor of
queries times keys is made where there was none. A block is taken in float32 (float64 stays). Of its
numbers a line is kept: the columns of :mod:`initfast.ops.reference_moments`, masked logits among
the non-finite ones, then how many are masked, how many rows count, and the sum of their entropies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from initfast import ops
from initfast.ops.reference_moments import COLUMNS
from initfast.stats.attention import Attention
from initfast.stats.moments import Moments

BLOCK = {"cpu": 1 << 18}
"""Logits in a block: what a core's cache holds."""

_LARGE_BLOCK = 1 << 24

_MASKED, _FAR = -5e3, -4.0
"""A mask may add a number in the place of minus infinity: -1e4 at least, or its dtype's lowest.

A logit is masked below the first that also lies, in magnitude, so many times the row's largest
below zero: no logits that are only large do.
"""


def of_logits(logits: Tensor, dim: int = -1) -> Tensor:
    """The lines of logits that a softmax over this dimension takes.

    Args:
        logits: of floats, with two dimensions at least.
        dim: counts the keys.

    Returns:
        One line for each block.
    """
    rows = logits.detach().movedim(dim, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    step = max(1, _block(rows) // max(1, rows.shape[-1]))
    return _lines(_wide(part) for part in rows.split(step))


def of_product(
    q: Tensor,
    k: Tensor,
    mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """The lines of the logits that `F.scaled_dot_product_attention` makes of these arguments.

    Args:
        q: the queries [..., heads, L, E].
        k: the keys [..., key heads, S, E]; each of fewer heads serves a group of the queries'.
        mask: of booleans, true where a key is seen, or what is added to the logits; as expands to
            [..., heads, L, S].
        is_causal: query i sees keys up to i alone.
        scale: of the logits; None: 1 / sqrt(E).

    Returns:
        One line for each block.
    """
    if not q.numel() or not k.numel():
        return _lines(iter(()))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    length, keys = q.shape[-2], k.shape[-2]
    heads, key_heads = (t.shape[-3] if t.dim() > 2 else 1 for t in (q, k))
    heads = max(heads, key_heads)
    groups = -1, key_heads, heads // key_heads
    lead = torch.broadcast_shapes(q.shape[:-3], k.shape[:-3])
    q = q.detach().expand(*lead, heads, *q.shape[-2:]).reshape(*groups, *q.shape[-2:])
    k = k.detach().expand(*lead, key_heads, *k.shape[-2:]).reshape(*groups[:2], *k.shape[-2:])
    if mask is not None:
        mask = mask.detach().expand(*lead, heads, length, keys).reshape(*groups, length, keys)

    def block(n: slice, h: slice, rows: slice) -> Tensor:
        part, of = _wide(q[n, h, :, rows]), _wide(k[n, h])
        product = part.flatten(2, 3) @ of.mT
        logits = product.unflatten(2, part.shape[2:4]) * scale
        if is_causal:
            at = torch.arange(length, device=q.device)[rows, None]
            logits.masked_fill_(torch.arange(keys, device=q.device) > at, -math.inf)
        if mask is None:
            return logits
        own = mask[n, h, :, rows]
        return logits.masked_fill_(~own, -math.inf) if own.dtype is torch.bool else logits + own

    return _lines(_blocks(block, (len(q), key_heads, length), q.shape[2] * keys, _block(q)))


def _blocks(
    block: Callable[[slice, slice, slice], Tensor], sizes: tuple[int, int, int], row: int, most: int
) -> Iterator[Tensor]:
    """The blocks of three dimensions, where one of the last costs so much, each of at most most."""
    steps, left = [], max(1, most // max(1, row))
    for size in reversed(sizes):
        steps.append(min(max(size, 1), max(left, 1)))
        left //= max(size, 1)
    (first, second, third), (c, b, a) = sizes, steps
    for i in range(0, first, a):
        for j in range(0, second, b):
            for l0 in range(0, third, c):
                yield block(slice(i, i + a), slice(j, j + b), slice(l0, l0 + c))


def _block(t: Tensor) -> int:
    return BLOCK.get(t.device.type, _LARGE_BLOCK)


def _wide(t: Tensor) -> Tensor:
    return t if t.dtype is torch.float64 else t.float()


def _lines(blocks: Iterator[Tensor]) -> Tensor:
    found = [_line(block) for block in blocks if block.numel()]
    return torch.stack(found) if found else torch.empty(0, COLUMNS + 3, dtype=torch.float64)


def _line(logits: Tensor) -> Tensor:
    """The numbers of whole rows of logits."""
    top = logits.amax(-1, keepdim=True)
    masked = (logits <= (top * _FAR).clamp(max=_MASKED)) | (logits == -math.inf)
    seen = logits.masked_fill(masked, -math.inf)
    below = seen - top
    weight = below.exp()
    total = weight.sum(-1)
    # ln of the weights' sum, less their mean logarithm: the entropy.
    mean = weight.mul_(below).masked_fill_(masked, 0.0).sum(-1) / total
    count = logits.shape[-1] - masked.sum(-1)
    entropy = (total.log() - mean) / count.log()
    counts = (count > 1) & entropy.isfinite()
    row = ops.moments(seen)
    sums = [masked.sum(), counts.sum(), entropy.masked_fill(~counts, 0.0).sum(dtype=row.dtype)]
    return torch.cat([row, torch.stack([each.to(row) for each in sums])])


def read(lines: Tensor) -> Attention:
    """What lines say, copied from their device and merged in their order."""
    found = [_attention(line) for line in lines.tolist()]
    return reduce(Attention.merge, found, Attention(Moments(), 0, math.nan))


def _attention(line: list[float]) -> Attention:
    *row, masked, rows, entropy = line
    m = Moments.from_row(row)
    unmasked = replace(m, count=m.count - int(masked), nonfinite=m.nonfinite - int(masked))
    return Attention(unmasked, int(rows), entropy / rows if rows else math.nan)
