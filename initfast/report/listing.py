"""Which layers each process has run, and which layers the whole net has."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from initfast.collectives import Distinct
from initfast.recording.unit_room import MOST_UNITS
from initfast.report.run_facts import RunFacts
from initfast.stats.layer import Layer, Skipped
from initfast.stats.layer_moments import tensors_of, with_moments
from initfast.stats.merge import Key, calls_of
from initfast.stats.moments import Moments
from initfast.stats.nonfinite_source import NonfiniteSource
from initfast.stats.unit_moments import UnitMoments

UNKNOWN, NO, YES = range(3)
"""Of a fact that a process does not know, and of one that is known: larger where known and so."""


Measured = tuple[tuple[str, str], ...]
"""The kinds and names of the tensors of a layer, in order."""


class Tensors(NamedTuple):
    """What a process has measured of one layer.

    Attributes:
        measured: the kinds and names of the tensors: with others' it merges only if they have the
            same.
        units: how many units the whole layer has, if each is known to be dead or not.
        with_moments: how many units it has, if the moments of each are known.
    """

    measured: Measured
    units: int | None
    with_moments: int | None

    def merge(self, other: Tensors) -> Tensors:
        """What is known of the layer on the batches of both.

        A product of two inputs has other units in every batch, as the scores of an attention.
        """
        pairs = zip(self[1:], other[1:], strict=True)
        return Tensors(self.measured, *(a if a == b else None for a, b in pairs))


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
    def measured(self) -> list[tuple[Key, Measured]]:
        """What every process that runs these layers must have measured of them."""
        return [(key, found.measured) for key, found in (self.tensors or {}).items()]

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
        alive = None if layer.live is None else _units(layer, layer.live.size)
        found[key] = Tensors(measured, alive, _units_with_moments(layer))
        known = with_moments(layer, dict.fromkeys(measured, _NONE))
        # Of what is not merged, a process's own would pass for that of all.
        nothing: dict[str, Any] = dict.fromkeys(_OF_ONE_PROCESS)
        bare.append(replace(known, **nothing))
    return tuple(bare), found


_NONE = Moments()
_OF_ONE_PROCESS = ("live", "attention", "histogram", "per_sample", "recurrence", "unit_moments")


def begin_of_units(layer: Layer) -> int:
    """Where the units of a layer begin among those of the whole layer."""
    return layer.parts.units[0] if layer.parts is not None and layer.parts.units else 0


def _units_with_moments(layer: Layer) -> int | None:
    """None too where one process alone would not keep the moments of as many units."""
    if isinstance(layer.unit_moments, UnitMoments):
        units = _units(layer, layer.unit_moments.columns.shape[1])
    elif layer.unit_moments is None and not layer.post.count and len(layer.shape) > 1:
        units = None if layer.parts is None else _units(layer, 0)  # a part without units
    else:
        return None
    return units if units is not None and units <= MOST_UNITS else None


def _units(layer: Layer, here: int) -> int | None:
    """How many units the whole of a layer has; None where it is not known which are `here`."""
    if layer.parts is None:
        return here
    return layer.parts.units[1] if layer.parts.units is not None else None


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
        if rival is not None and each.value.measured != rival.value.measured:
            raise RuntimeError(_difference(each, rival))
        known |= dict.fromkeys(tensors, rival or each)
    found: dict[Key, tuple[Layer, Tensors]] = {}
    for listing, _ in listings:
        pairs = zip(listing.layers, listing.tensors.items(), strict=True)
        for layer, (key, tensors) in pairs:
            first, known_of = found.setdefault(key, (layer, tensors))
            bad = dict.fromkeys(first.nonfinite_parameters + layer.nonfinite_parameters)
            first = replace(first, nonfinite_parameters=tuple(bad))
            found[key] = first, known_of.merge(tensors)
    keys = sorted(found, key=lambda key: key[0])
    return WholeNet(keys, [found[key][0] for key in keys], [found[key][1] for key in keys])


def _difference(odd: Distinct, usual: Distinct) -> str:
    """Where a rank's list of layers differs from that of others."""
    a, b = odd.value.measured, usual.value.measured
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


def _said(rows: Sequence[tuple[Key, Measured]], at: int) -> str:
    if at >= len(rows):
        return "none"
    (_, name, op, call), measured = rows[at]
    tensors = ", ".join(f"{kind} {which}".strip() for kind, which in measured)
    return f"{name!r} ({op}, call {call} with {tensors})"
