"""Copies of many tensors, and writing them back: one operation for those that are alike.

A net has hundreds of small buffers. On a card each copy of its own costs the host as much as a
layer does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """A copy of each tensor; those alike share their memory.

    Args:
        tensors: any, of any kind.

    Example:
        >>> from initfast.profiling.tensor_copies import copies
        >>> [t.tolist() for t in copies([torch.zeros(2), torch.tensor(1), torch.ones(1, 1)])]
        [[0.0, 0.0], 1, [[1.0]]]
    """
    found: list[Tensor] = [*tensors]
    with torch.no_grad():
        for places in _alike(tensors).values():
            if len(places) == 1:
                together: Sequence[Tensor] = [tensors[places[0]].clone()]
            else:
                together = torch.stack([tensors[i] for i in places]).unbind()
            for i, copy in zip(places, together, strict=True):
                found[i] = copy
    return found


def write(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Let tensors have the values of their copies; their versions do not count it.

    One that was resized, or whose memory was given away, gets the memory of the copy.

    Args:
        pairs: tensors, each with its copy.
    """
    whole = []
    for t, copy in pairs:
        if t.shape == copy.shape and _has_memory(t):
            whole.append((t.data, copy))  # it counts its versions apart: a graph may have saved t
        else:
            t.data = copy.clone()
    for places in _alike([t for t, _ in whole]).values():
        if len(places) == 1:
            t, copy = whole[places[0]]
            t.copy_(copy)
        else:
            torch._foreach_copy_([whole[i][0] for i in places], [whole[i][1] for i in places])


def _has_memory(t: Tensor) -> bool:
    return t.layout is not torch.strided or t.untyped_storage().nbytes() > 0 or not t.numel()


def _alike(tensors: Sequence[Tensor]) -> dict[Hashable, list[int]]:
    """The places of the tensors that one operation takes: of one shape, dtype and device."""
    kinds: dict[Hashable, list[int]] = {}
    for i, t in enumerate(tensors):
        is_plain = type(t) is Tensor and t.layout is torch.strided and not t.is_quantized
        kinds.setdefault((t.shape, t.dtype, t.device) if is_plain else i, []).append(i)
    return kinds
