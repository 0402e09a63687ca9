"""Where a shard lies in its global tensor.

The sampler draws any slice of a tensor alone, given the slice's place. For a DTensor that place
follows from its placements, so that every rank fills its own shard and all together make the tensor
that one process would have made.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from initfast.errors import ArgumentError


class Place(NamedTuple):
    """Where the elements of a plain tensor lie in the global tensor that it is a part of.

    Element (i, j, ...) of the part is element ``offset + i strides[0] + j strides[1] + ...`` of the
    whole, counted row by row.

    Attributes:
        global_shape: of the whole.
        offset: the number, in the whole, of the part's first element.
        strides: how far a step in each dimension of the part goes in the whole. None: as far as in
            the whole itself (a block of it), or 1 where the part alone is flat (a run of it).

    Example:
        >>> whole = initfast.init.normal_(torch.empty(4, 6), key=1)
        >>> place = initfast.init.Place((4, 6), offset=3)  # the right half of the columns
        >>> part = initfast.init.normal_(torch.empty(4, 3), key=1, place=place)
        >>> torch.equal(part, whole[:, 3:])
        True
        >>> place = initfast.init.Place((4, 6), offset=10)  # as ZeRO and FSDP cut a flat tensor
        >>> part = initfast.init.normal_(torch.empty(9), key=1, place=place)
        >>> torch.equal(part, whole.flatten()[10:19])
        True
    """

    global_shape: tuple[int, ...]
    offset: int = 0
    strides: tuple[int, ...] | None = None


def checked_place(place: object) -> Place:
    """It; raises ArgumentError unless it is a place."""
    if not isinstance(place, Place):
        raise ArgumentError(f"place is {place!r}; expected an initfast.init.Place")
    return place


class Shard(NamedTuple):
    """A slice that this process holds.

    local: its elements.
    start: the global index of its first element in each dimension.
    shape: of the global tensor.
    steps: how far a step in each dimension of local goes in the global tensor, where the slice is
        no rectangle of it; None where it is.
    """

    local: Tensor
    start: tuple[int, ...]
    shape: tuple[int, ...]
    steps: tuple[int, ...] | None = None

    @property
    def strides(self) -> tuple[int, ...]:
        """How far a step in each dimension of local goes in the global tensor, row by row."""
        return _row_strides(self.shape) if self.steps is None else self.steps

    @property
    def offset(self) -> int:
        """The global index of the first element."""
        strides = _row_strides(self.shape)
        return sum(s * stride for s, stride in zip(self.start, strides, strict=True))

    def cut(self, whole: Tensor) -> Tensor:
        """This slice of a tensor of the global shape."""
        if self.steps is not None:
            return whole.contiguous().as_strided(self.local.shape, self.steps, self.offset)
        for d, (start, size) in enumerate(zip(self.start, self.local.shape, strict=True)):
            whole = whole.narrow(d, min(start, whole.shape[d]), size)
        return whole


def _row_strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def is_distributed(tensor: Any) -> bool:
    """Whether it is a DTensor. (torch.distributed is imported by whoever made one, not by us.)"""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def shard_of(tensor: Tensor, place: Place | None = None) -> Shard:
    """The slice of a tensor that this process holds: all of it, but for a DTensor.

    Args:
        tensor: any tensor; a DTensor placed by Shard (any dimension, uneven, repeated) and
            Replicate, as FSDP2, tensor parallelism and their combinations do.
        place: where a plain tensor lies in its global tensor; None: it is the whole.

    Returns:
        Its Shard; the local part shares the tensor's memory.

    Raises:
        ArgumentError: a placement that is neither Shard nor Replicate; a place that does not fit.

    Example:
        >>> shard_of(torch.empty(4, 3)).strides
        (3, 1)
    """
    if place is not None:
        return _placed(tensor, checked_place(place))
    shape = tuple(tensor.shape)
    if not is_distributed(tensor):
        return Shard(tensor, (0,) * len(shape), shape)
    mesh: Any = tensor.device_mesh  # type: ignore[attr-defined]
    with torch.no_grad():
        local = tensor.to_local()  # type: ignore[attr-defined]
    coordinate = mesh.get_coordinate()
    if coordinate is None:  # this process is no part of the mesh
        return Shard(local, (0,) * len(shape), shape)
    sizes = [mesh.size(i) for i in range(mesh.ndim)]
    start, extent = locate(shape, sizes, coordinate, tensor.placements)  # type: ignore[attr-defined]
    if tuple(local.shape) != extent:
        raise ArgumentError(
            f"the local shard of a DTensor of shape {shape} placed by {tensor.placements} "  # type: ignore[attr-defined]
            f"has shape {tuple(local.shape)}; expected {extent}"
        )
    return Shard(local, start, shape)


def _placed(tensor: Tensor, place: Place) -> Shard:
    """The slice that a place says a plain tensor is."""
    shape, (wanted, offset, strides) = tuple(tensor.shape), place
    whole = tuple(map(operator.index, wanted))
    rows = _row_strides(whole)
    what = f"the tensor has shape {shape} and its place is {tuple(place)}"
    if is_distributed(tensor):
        raise ArgumentError(f"{what}; expected no place for a DTensor, which has its own")
    if strides is None and len(shape) not in (1, len(whole)):
        raise ArgumentError(f"{what}; expected strides, one for each dimension of the tensor")
    given = strides is not None
    steps = tuple(strides) if strides is not None else rows if len(shape) == len(whole) else (1,)
    if len(steps) != len(shape) or (tensor.numel() and min(steps, default=1) < 1):
        raise ArgumentError(f"{what}; expected a positive stride for each dimension of the tensor")
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if offset < 0 or (tensor.numel() and last >= math.prod(whole)):
        raise ArgumentError(
            f"{what}: its last element would be number {last}; "
            f"expected numbers from 0 to {math.prod(whole) - 1}"
        )
    start = tuple(offset // max(row, 1) for row in rows[:1])
    start += tuple(
        offset // max(row, 1) % max(n, 1) for row, n in zip(rows[1:], whole[1:], strict=True)
    )
    fits = steps == rows and all(
        at + n <= size for at, n, size in zip(start, shape, whole, strict=True)
    )
    if not (fits or given or steps != rows or not tensor.numel()):
        raise ArgumentError(f"{what}; expected a block that lies within the rows of the whole")
    return Shard(tensor, start, whole, None if fits else steps)


def check_not_summed(tensor: Tensor, name: str) -> None:
    """Raise ArgumentError where ranks' equal parts add up to another tensor than their own."""
    if is_distributed(tensor):
        for placement in tensor.placements:  # type: ignore[attr-defined]
            if placement.is_partial() and placement.reduce_op not in ("avg", "max", "min"):
                raise ArgumentError(
                    f"{name}: a DTensor is placed by {placement}; expected Shard or Replicate"
                )


def locate(
    shape: Sequence[int], mesh: Sequence[int], coordinate: Sequence[int], placements: Sequence[Any]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and size of a shard in every dimension.

    Args:
        shape: of the global tensor.
        mesh: the size of each dimension of the device mesh.
        coordinate: this process's place in the mesh.
        placements: one for each dimension of the mesh, as `DTensor.placements`.

    Returns:
        (start, size), one number each for every dimension of the tensor. A dimension is cut as
        `torch.chunk` does: into pieces of ceil(size / ranks), the last ones shorter or empty.

    Raises:
        ArgumentError: a placement that is neither Shard nor Replicate.

    Example:
        >>> from torch.distributed.tensor import Replicate, Shard
        >>> locate((10, 4), (4, 2), (3, 1), (Shard(0), Replicate()))
        ((9, 0), (1, 4))
    """
    start, size = [0] * len(shape), list(shape)
    for i in _cutting_order(mesh, placements):
        d = placements[i].dim
        piece = -(-size[d] // mesh[i])
        skipped = min(piece * coordinate[i], size[d])
        start[d] += skipped
        size[d] = min(piece, size[d] - skipped)
    return tuple(start), tuple(size)


def _cutting_order(mesh: Sequence[int], placements: Sequence[Any]) -> list[int]:
    """The mesh dimensions that cut the tensor, in the order in which they cut.

    That is the mesh's own, but where FSDP2 cuts what tensor parallelism has cut before, though its
    mesh dimension comes first. Such a placement has a `split_factor`: the number of pieces that the
    later mesh dimensions make of the tensor's dimension.
    """
    order: list[int] = []
    for i in reversed(range(len(placements))):
        placement = placements[i]
        if placement.is_replicate():
            continue
        dim = getattr(placement, "dim", None)
        if dim is None or placement.is_partial():
            raise ArgumentError(f"a DTensor is placed by {placement}; expected Shard or Replicate")
        pieces, at = getattr(placement, "split_factor", 1), 0
        while pieces > 1 and at < len(order):
            if placements[order[at]].dim == dim:
                pieces //= mesh[order[at]]
            at += 1
        order.insert(at, i)
    return order
