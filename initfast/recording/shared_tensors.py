"""Which parts of tensors this process holds, followed while a net runs that several run together.

A DTensor says how its processes share it. Of a plain tensor it is known from where it came: what
was taken out of a DTensor is placed as that was, and whatever is computed from a part that others
lack is such a part itself, until a collective makes a DTensor or its like of it. Any other tensor
is taken to be the same on all processes that share weights, as tensor parallelism takes a plain
input.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from initfast.collectives import is_distributed
from initfast.init.placement import is_distributed as is_dtensor
from initfast.init.placement import locate
from initfast.nets.shards import Stage
from initfast.stats.parts import NetParts, Part

Axis = tuple[int, ...]
"""The ranks along one dimension of a mesh, this process's among them."""


class Held(NamedTuple):
    """How processes share a tensor.

    Attributes:
        cut: the axes along which each rank has a part of its own.
        copied: those along which all are known to have the same.
        start, whole: as in :class:`Part`.
    """

    cut: frozenset[Axis] = frozenset()
    copied: frozenset[Axis] = frozenset()
    start: tuple[int, ...] | None = None
    whole: tuple[int, ...] | None = None

    def of_result(self, y: Tensor, x: Tensor, keeps_order: bool) -> Held:
        """How they share what is computed here of x, which they share so.

        Args:
            y: the result.
            x: what it was computed of.
            keeps_order: whether dimensions that both have are the same.
        """
        if self.whole is None or self.start is None or not keeps_order or y.dim() != x.dim():
            return Held(self.cut)
        cut = [d for d in range(x.dim()) if self.whole[d] != x.shape[d]]
        if any(y.shape[d] != x.shape[d] for d in cut):
            return Held(self.cut)
        whole = tuple(self.whole[d] if d in cut else y.shape[d] for d in range(y.dim()))
        start = tuple(self.start[d] if d in cut else 0 for d in range(y.dim()))
        return Held(self.cut, frozenset(), start, whole)


class SharedTensors:
    """How processes share the tensors that one of them has seen.

    Attributes:
        axes: those along which weights are shared, or copied.
    """

    def __init__(self) -> None:
        self.axes: dict[Axis, None] = {}
        self._rank = torch.distributed.get_rank() if is_distributed() else 0
        self._held: dict[int, tuple[weakref.ref[Tensor], Held]] = {}
        self._wrappers: dict[int, weakref.ref[Tensor]] = {}
        self._at: dict[int, Held] = {}  # by the address of a row

    def found(self, t: Tensor, part: Tensor, is_weight: bool = False) -> None:
        """A process holds this part of t, which is no plain tensor."""
        held = self.held(t) or Held()
        self._wrappers[id(part)] = weakref.ref(t)
        self.mark(part, held)
        if is_weight:
            self.axes |= dict.fromkeys(sorted(held.cut | held.copied))

    def mark(self, t: Tensor, held: Held) -> None:
        """Remember how processes share t."""
        self._held[id(t)] = (weakref.ref(t), held)

    def held(self, t: Tensor) -> Held | None:
        """How processes share t; None where nothing is known of it."""
        if is_dtensor(t):
            return _held_by_placements(t)
        entry = self._held.get(id(t))
        return entry[1] if entry is not None and entry[0]() is t else None

    def wrapper(self, part: Tensor) -> Tensor | None:
        """What the part was found in; None of a plain tensor."""
        found = self._wrappers.get(id(part))
        return None if found is None else found()

    def measured(self, t: Tensor, address: int) -> None:
        """The row of this address is t's."""
        if (held := self.held(t)) is not None:
            self._at[address] = held

    # ---- reading ----

    def net(self, stage: Stage | None, inputs: Iterable[int]) -> NetParts:
        """How the net runs; its inputs' rows are at these addresses."""
        processes = math.prod(map(len, self.axes))
        number, averaged = (None, 1) if stage is None else stage
        of_inputs = tuple(map(self.part, inputs))
        return NetParts(processes, self.part(None).counts, number, of_inputs, averaged)

    def part(self, address: int | None) -> Part:
        """Of the tensor whose row is there."""
        held = self._at.get(-1 if address is None else address, Held())
        copied = (held.copied | self.axes.keys()) - held.cut
        counts = all(axis[0] == self._rank for axis in copied)
        return Part(counts, held.start, held.whole)

    def units(self, address: int, shape: Sequence[int], dim: int) -> tuple[int, int] | None:
        """Where the units of an output begin among all, and how many there are.

        Args:
            address: of its row.
            shape: of this process's part of it.
            dim: which dimension counts units.
        """
        held = self._at.get(address, Held())
        if held.start is None or held.whole is None:
            return None if held.cut or not shape else (0, shape[dim])
        return held.start[dim], held.whole[dim]


def _held_by_placements(t: Any) -> Held:
    """How processes share a DTensor."""
    mesh, placements = t.device_mesh, t.placements
    here = mesh.get_coordinate()
    if here is None:  # this process is no part of the mesh
        return Held()
    cut: set[Axis] = set()
    copied: set[Axis] = set()
    for dim, placement in enumerate(placements):
        at = tuple(slice(None) if i == dim else c for i, c in enumerate(here))
        axis = tuple(mesh.mesh[at].tolist())
        (copied if placement.is_replicate() else cut).add(axis)
    if any(p.is_partial() or not (p.is_replicate() or hasattr(p, "dim")) for p in placements):
        return Held(frozenset(cut), frozenset(copied))
    shape = tuple(t.shape)
    start, _ = locate(shape, tuple(mesh.mesh.shape), here, placements)
    return Held(frozenset(cut), frozenset(copied), start, shape)
