"""What is counted by unit, and by layer, of the whole net: reduced over all processes.

Units that tensor parallelism shares are other units of the same layer; processes that work on other
batches have other rows of the same units. Nothing of a unit is gathered: sums and maxima travel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from initfast.collectives import add_up, largest
from initfast.report.listing import (
    NO,
    UNKNOWN,
    YES,
    Tensors,
    WholeNet,
    begin_of_units,
    keys_of,
)
from initfast.stats.layer import Layer
from initfast.stats.parts import LayerParts, Part
from initfast.stats.unit_moments import (
    UnitMoments,
    from_sums_about,
    sums_about,
    units_of_layers,
)

MAXIMA, SUMS = 2, 3
"""How many numbers of a unit travel: its pivot and largest magnitude; its sums about the pivot."""


class ByUnit(NamedTuple):
    """What is known of each layer of the whole net, by its place.

    Attributes:
        lengths: of its output and of its input along the batch.
        has_nan: as of :class:`Layer`.
        live: which of its units are not dead; None where unknown.
        moments: of its units, where they are known.
    """

    lengths: list[list[int]]
    has_nan: list[bool | None]
    live: list[np.ndarray | None]
    moments: dict[int, UnitMoments]


def reduced_by_unit(net: WholeNet, layers: Sequence[Layer], group: Any) -> ByUnit:
    """What all processes know together; collective, in three messages.

    Maxima of bytes: whether a layer has a NaN, and which of its units are not dead. Maxima of
    float64: of each unit, a mean that the sums are taken about, and the largest magnitude. Sums:
    those of units, then two of each layer, the lengths along the batch.
    """
    index = {key: i for i, key in enumerate(net.keys)}
    own = [(index[key], layer) for key, layer in zip(keys_of(layers), layers, strict=True)]
    places = _begins(net, lambda found: found.units)
    codes = torch.zeros(len(net.keys) + places[-1], dtype=torch.uint8)
    for i, layer in own:
        codes[i] = UNKNOWN if layer.has_nan is None else YES if layer.has_nan else NO
        if layer.live is not None and places[i] < places[i + 1]:
            begin = len(net.keys) + places[i] + begin_of_units(layer)
            codes[begin : begin + layer.live.size] = torch.from_numpy(layer.live.copy())
    codes = largest(codes, group)
    of_layers, alive = codes[: len(net.keys)].tolist(), codes[len(net.keys) :].bool().numpy()
    live = _cut(alive, places, [found.units for found in net.tensors])
    lengths, moments = _moments(net, own, group)
    return ByUnit(lengths, [(None, False, True)[code] for code in of_layers], live, moments)


def _moments(
    net: WholeNet, own: Sequence[tuple[int, Layer]], group: Any
) -> tuple[list[list[int]], dict[int, UnitMoments]]:
    """The lengths along the batch, and the moments of units."""
    places = _begins(net, lambda found: found.with_moments)
    units = places[-1]
    maxima = torch.zeros(MAXIMA, units, dtype=torch.float64)
    maxima[0] = -torch.inf
    for columns, at in _counted(own, places):
        mean = np.where(columns[0] > 0, columns[1], -np.inf)
        maxima[:, at] = torch.from_numpy(np.stack([mean, columns[3]]))
    maxima = largest(maxima, group)
    pivots = maxima[0].numpy()
    numbers = SUMS * units
    sums = torch.zeros(numbers + 2 * len(net.keys), dtype=torch.float64)
    of_units, of_layers = sums[:numbers].view(SUMS, units), sums[numbers:].view(-1, 2)
    for columns, at in _counted(own, places):
        of_units[:, at] = torch.from_numpy(sums_about(pivots[at], columns))
    for i, layer in own:
        of_layers[i] = torch.tensor(list(_lengths(layer)), dtype=torch.float64)
    sums = add_up(sums, group)
    found = from_sums_about(pivots, sums[:numbers].view(SUMS, units).numpy(), maxima[1].numpy())
    cut = _cut(found, places, [tensors.with_moments for tensors in net.tensors])
    lengths = sums[numbers:].long().view(-1, 2).tolist()
    return lengths, units_of_layers({i: x for i, x in enumerate(cut) if x is not None})


def _counted(
    own: Sequence[tuple[int, Layer]], places: Sequence[int]
) -> Iterator[tuple[np.ndarray, slice]]:
    """The moments of units that this process counts, and where they lie among all."""
    for i, layer in own:
        parts, units = layer.parts or LayerParts(), layer.unit_moments
        if parts.output.counts and places[i] < places[i + 1] and isinstance(units, UnitMoments):
            begin = places[i] + begin_of_units(layer)
            yield units.columns, slice(begin, begin + units.columns.shape[1])


def _lengths(layer: Layer) -> Iterator[int]:
    """Of a layer's output and input along the batch; 0 of what another process counts."""
    parts = layer.parts or LayerParts()
    of_input = parts.inputs[0] if parts.inputs and layer.input is not None else Part()
    for part, shape in ((parts.output, layer.shape), (of_input, layer.input_shape)):
        yield shape[0] if shape and part.begins_the_batch else 0


def _begins(net: WholeNet, units_of: Callable[[Tensors], int | None]) -> list[int]:
    """Where the units of each layer begin among those of all, and where all end."""
    begins = [0]
    for tensors in net.tensors:
        begins.append(begins[-1] + (units_of(tensors) or 0))
    return begins


def _cut(
    numbers: np.ndarray, places: Sequence[int], units: Sequence[int | None]
) -> list[np.ndarray | None]:
    """Those of each layer's units; None where it has none that are known."""
    return [
        None if count is None else numbers[..., begin : begin + count]
        for begin, count in zip(places, units, strict=False)
    ]


def bytes_by_unit(net: WholeNet) -> tuple[int, int]:
    """How many messages :func:`reduced_by_unit` takes, and the bytes of their results."""
    layers, number = len(net.keys), torch.float64.itemsize
    alive = _begins(net, lambda found: found.units)[-1]
    moments = _begins(net, lambda found: found.with_moments)[-1]
    found = [layers + alive, number * MAXIMA * moments, number * (SUMS * moments + 2 * layers)]
    return sum(map(bool, found)), sum(found)
