"""Which layers each process has run, and which layers the whole net has."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from initfast.collectives import Distinct
from initfast.report.run_facts import RunFacts
from initfast.stats.layer import Layer, Skipped
from initfast.stats.layer_moments import tensors_of, with_moments
from initfast.stats.merge import Key, calls_of
from initfast.stats.moments import Moments
from initfast.stats.nonfinite_source import NonfiniteSource
from initfast.stats.parts import LayerParts

UNKNOWN, NO, YES = range(3)
"""Of a fact that a process does not know, and of one that is known: larger where known and so."""


class Tensors(NamedTuple):
    """What a process has measured of one layer: with others' it merges only if they have the same.

    Attributes:
        measured: the kinds and names of the tensors.
        units: how many units the whole layer has, if each is known to be dead or not.
    """

    measured: tuple[tuple[str, str], ...]
    units: int | None


@dataclass(frozen=True)
class Listing:
    """The layers that a process has run, without their numbers, and what else it says once.

    Attributes:
        failure: why the process has nothing to give; "" where it has.
        layers: without their moments and masks.
        tensors: of each layer by its key, in order.
        inputs: how many inputs of the net itself are measured.
        has_loss: whether there was a loss.
        classes: of the cross-entropies in it.
        root, notes, skipped, run, source: as of :class:`initfast.Report` and of its outcome.
    """

    failure: str = ""
    layers: tuple[Layer, ...] = ()
    tensors: Mapping[Key, Tensors] | None = None
    inputs: int = 0
    has_loss: bool = False
    classes: tuple[int, ...] = ()
    root: str = ""
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    run: RunFacts | None = None
    source: NonfiniteSource | None = None

    @property
    def stage(self) -> int:
        """The first stage of a pipeline among its layers; -1 without a pipeline."""
        return min((stage for stage, *_ in self.tensors or ()), default=sys.maxsize)

    @property
    def in_common(self) -> str:
        """What is equal, to the letter, on processes that need say it only once."""
        bad = [layer.nonfinite_parameters for layer in self.layers]
        own = self.failure, self.tensors, self.inputs, self.has_loss, self.classes
        return repr((own, bad, self.root, self.notes, self.skipped, self.source))


def keys_of(layers: Sequence[Layer]) -> list[Key]:
    """The keys of layers, in order."""
    return [key for key, _ in calls_of(layers)]


def listed(layers: Sequence[Layer]) -> tuple[tuple[Layer, ...], dict[Key, Tensors]]:
    """Layers without their numbers, and what was measured of each by its key."""
    bare, found = [], {}
    for key, layer in zip(keys_of(layers), layers, strict=True):
        measured = tuple((each.kind, each.name) for each in tensors_of(layer))
        found[key] = Tensors(measured, units_of(layer)[1] if has_units(layer) else None)
        known = with_moments(layer, dict.fromkeys(measured, _NONE))
        # Of what is not merged, a process's own would pass for that of all.
        known = replace(known, live=None, attention=None, histogram=None, unit_moments=None)
        bare.append(replace(known, recurrence=None))
    return tuple(bare), found


_NONE = Moments()


def has_units(layer: Layer) -> bool:
    """Whether it is known of every unit here whether it is dead, and which of all units it is."""
    return layer.live is not None and (layer.parts is None or layer.parts.units is not None)


def units_of(layer: Layer) -> tuple[int, int]:
    """Where the units of a layer that has them begin among all, and how many there are."""
    parts = layer.parts or LayerParts()
    return parts.units or (0, 0 if layer.live is None else layer.live.size)


class WholeNet(NamedTuple):
    """The layers of the whole net, in order: the stages of a pipeline one after the other.

    Attributes:
        keys: of the layers.
        layers: likewise, of the first process that has each, without numbers.
        tensors: likewise.
    """

    keys: list[Key]
    layers: list[Layer]
    tensors: list[Tensors]


def whole_net(listings: Sequence[Distinct]) -> WholeNet:
    """The layers of the net of which each process has run some, or all.

    Args:
        listings: every different :class:`Listing`, with its ranks.

    Raises:
        RuntimeError: a rank has failed, or two ranks have run the same layers in different lists.
    """
    for listing, ranks in listings:
        if listing.failure:
            raise RuntimeError(f"gathered: rank {ranks[0]} cannot take part: {listing.failure}")
    by_size = sorted(listings, key=lambda each: -len(each.ranks))  # the odd one is to be named
    known: dict[Key, Distinct] = {}
    for each in by_size:
        tensors = each.value.tensors
        rival = next((known[key] for key in tensors if key in known), None)
        if rival is not None and list(tensors.items()) != list(rival.value.tensors.items()):
            raise RuntimeError(_difference(each, rival))
        known |= dict.fromkeys(tensors, rival or each)
    found: dict[Key, tuple[Layer, Tensors]] = {}
    for listing, _ in listings:
        pairs = zip(listing.layers, listing.tensors.items(), strict=True)
        for layer, (key, tensors) in pairs:
            first = found.setdefault(key, (layer, tensors))[0]
            bad = dict.fromkeys(first.nonfinite_parameters + layer.nonfinite_parameters)
            found[key] = replace(first, nonfinite_parameters=tuple(bad)), tensors
    keys = sorted(found, key=lambda key: key[0])
    return WholeNet(keys, [found[key][0] for key in keys], [found[key][1] for key in keys])


def _difference(odd: Distinct, usual: Distinct) -> str:
    """Where a rank's list of layers differs from that of others."""
    a, b = list(odd.value.tensors.items()), list(usual.value.tensors.items())
    at = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    whose = "those of rank" + "s" * (len(usual.ranks) > 1)
    others = ", ".join(map(str, usual.ranks[:4])) + (", ..." if len(usual.ranks) > 4 else "")
    return (
        f"gathered: the layers of rank {odd.ranks[0]} differ from {whose} {others}: layer {at} is "
        f"{_said(a, at)} there, and {_said(b, at)} here; expected the same calls of the same "
        "modules, measured alike, on all ranks that run them"
    )


def _said(rows: Sequence[tuple[Key, Tensors]], at: int) -> str:
    if at >= len(rows):
        return "none"
    (_, name, op, call), tensors = rows[at]
    measured = ", ".join(f"{kind} {which}".strip() for kind, which in tensors.measured)
    return f"{name!r} ({op}, call {call} with {measured})"
