"""The numbers of the whole net's layers: as rows, from this process and from all, and in layers.

A row is of one tensor of a layer, or of an input of the net, or of a loss; every process has the
same rows, and fills those of the tensors that it has measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from initfast.report.global_units import ByUnit
from initfast.report.listing import NO, YES, Listing, WholeNet, keys_of
from initfast.stats.dead_units import count_units
from initfast.stats.layer import Layer
from initfast.stats.layer_moments import GRAD, WEIGHT_GRAD, tensors_of, with_moments
from initfast.stats.merge import Key
from initfast.stats.moments import Moments
from initfast.stats.parts import LayerParts, NetParts, Part

PART, SHARE = 12, 13
"""The columns of a row that follow its moments: which part it is of, and a share of one batch."""

COLUMNS = 14
_OTHERS_COUNT = -1  # in the place of a part that another process counts
_CUT_IN_OTHER_WAYS = -1  # in the place of whether processes have the same


class GlobalRows:
    """Which row is whose.

    Args:
        net: the whole one.
        inputs: how many inputs of the net itself there are.
        losses: how many losses: the whole one, and the cross-entropies in it.

    Attributes:
        of_layers: how many rows are those of layers; of inputs and then losses are the others.
    """

    def __init__(self, net: WholeNet, inputs: int, losses: int) -> None:
        self._begin: dict[Key, int] = {}
        self.of_layers = 0
        for key, tensors in zip(net.keys, net.tensors, strict=True):
            self._begin[key] = self.of_layers
            self.of_layers += len(tensors.measured)
        self._count = self.of_layers + inputs + losses
        self._losses = self.of_layers + inputs

    def filled(
        self, report: Any, mine: Listing, first: Listing, last: Listing, rank: int
    ) -> Tensor:
        """The rows as this process knows them; zeros where it knows nothing.

        Args:
            report: of this process.
            mine, first, last: what it has run, and who has the net's inputs and the losses.
            rank: of this process.
        """
        rows = torch.zeros(self._count, COLUMNS, dtype=torch.float64)
        net = NetParts()
        for key, layer in zip(keys_of(report.layers), report.layers, strict=True):
            net = net if layer.parts is None else layer.parts.net
            for i, each in enumerate(tensors_of(layer), start=self._begin[key]):
                part = _offset(each.part) if each.is_of_weight else _whose(each.part, rank)
                _put(rows[i], each.moments, part, net)
        if mine.stage == first.stage:
            parts = dict(enumerate(net.inputs))
            own = report.inputs[: first.inputs]
            for i, moments in enumerate(own):
                _put(rows[self.of_layers + i], moments, _whose(parts.get(i, Part()), rank), net)
        if mine.has_loss and mine.classes == last.classes:
            values = [report.outcome.loss, *(x.value for x in report.outcome.cross_entropies)]
            for i, value in enumerate(values, start=self._losses):
                number = Moments.of(torch.tensor(value, dtype=torch.float64))
                _put(rows[i], number, rank if net.counts else _OTHERS_COUNT, net)
        return rows


def _put(row: Tensor, moments: Moments, part: int, net: NetParts) -> None:
    row.copy_(torch.tensor([*astuple(moments), part, 1 / net.processes], dtype=torch.float64))


def _whose(part: Part, rank: int) -> int:
    """Which part of an output it is: every process has one of its own, or another counts it."""
    return rank if part.counts else _OTHERS_COUNT


def _offset(part: Part) -> int:
    """Which part of a weight it is, the same on processes that hold the same."""
    if part.start is None or part.whole is None:
        return 0
    strides = (math.prod(part.whole[d + 1 :]) for d in range(len(part.whole)))
    return sum(i * stride for i, stride in zip(part.start, strides, strict=True))


def merged_row(place: Tensor) -> Tensor:
    """One row of those that all ranks have in one place.

    Its last columns: whether all that hold the same part have the same, or parts of other lengths
    begin there; and how many batches there are.
    """
    firsts: dict[float, Tensor] = {}
    agree = YES
    for row in place[(place[:, SHARE] > 0) & (place[:, PART] != _OTHERS_COUNT)]:
        first = firsts.setdefault(row[PART].item(), row)
        if first[0] != row[0]:
            agree = _CUT_IN_OTHER_WAYS
        elif agree == YES and not _are_one(moments_of_row(first), moments_of_row(row)):
            agree = NO
    merged = reduce(Moments.merge, map(moments_of_row, firsts.values()), Moments())
    batches = place[:, SHARE].sum().item()
    return torch.tensor([*astuple(merged), agree, batches], dtype=torch.float64)


def _are_one(a: Moments, b: Moments) -> bool:
    """Whether two processes have measured the same tensor, each as it computed it."""
    if (a.count, a.nonfinite) != (b.count, b.nonfinite):
        return False
    if not a.finite:
        return True
    same_mean = abs(a.mean - b.mean) <= _ROUNDING * (a.rms + b.rms)
    return same_mean and abs(a.m2 - b.m2) <= _ROUNDING * (a.m2 + b.m2)


_ROUNDING = 1e-6
"""By so much a sum may differ that is made in another order."""


def moments_of_row(row: Tensor) -> Moments:
    """The moments that a row holds."""
    return Moments.from_row(row[:PART].tolist())


# ---- layers ----


class GlobalLayers:
    """Puts the numbers of the whole net into its layers.

    Args:
        net: the layers, without numbers.
        rows: merged, in their order.
        by_unit: of its layers.
    """

    def __init__(self, net: WholeNet, rows: Tensor, by_unit: ByUnit) -> None:
        self._net = net
        self._rows = iter(rows)
        self._by_unit = by_unit

    def layers(self) -> list[Layer]:
        """Of the whole net."""
        tensors = zip(self._net.layers, self._net.tensors, strict=True)
        return [self._layer(i, layer, of.measured) for i, (layer, of) in enumerate(tensors)]

    def _layer(self, i: int, layer: Layer, kinds: Sequence[tuple[str, str]]) -> Layer:
        parts = layer.parts or LayerParts()
        averaged = parts.net.micro_batches
        rows = {each: next(self._rows) for each in kinds}
        _check_cuts(layer, parts, rows)
        found = {each: self._tensor(each[0], row, averaged) for each, row in rows.items()}
        new = replace(with_moments(layer, found), parts=None)
        of_input = parts.inputs[0] if parts.inputs and layer.input is not None else Part()
        output, given = self._by_unit.lengths[i]
        shape = _whole_shape(layer.shape, parts.output, output, new.post)
        input_shape = layer.input_shape
        if input_shape is not None:
            input_shape = _whole_shape(input_shape, of_input, given, new.input)
        live = self._by_unit.live[i]
        units, dead_units = count_units(live, new.post.count)
        return replace(
            new,
            shape=shape,
            input_shape=input_shape,
            has_nan=self._by_unit.has_nan[i],
            live=live,
            units=units,
            dead_units=dead_units,
            unit_moments=self._by_unit.moments.get(i),
        )

    def _tensor(self, kind: str, row: Tensor, averaged: int) -> Moments | None:
        moments, (agree, batches) = moments_of_row(row), row[PART:].tolist()
        if kind == GRAD:
            return moments.scaled(1 / (batches * averaged))  # each has its own loss's
        is_of_one_loss = agree == YES or batches < 2
        return moments if is_of_one_loss or kind != WEIGHT_GRAD else None


def _check_cuts(layer: Layer, parts: LayerParts, rows: Mapping[tuple[str, str], Tensor]) -> None:
    """Raise RuntimeError, on all processes, where they cut a weight in different ways.

    Only torch's own modules surely use all of a parameter: another's forward may take its first
    columns, as many as its input has features.
    """
    is_whole = layer.type in layer.bases
    whole = {which: part.whole for which, part in parts.weights if part.whole is not None}
    for (kind, which), row in rows.items():
        if kind != "weight":
            continue
        count, agree, length = row[0].item(), row[PART].item(), math.prod(whole.get(which, (-1,)))
        differs = agree == _CUT_IN_OTHER_WAYS and (is_whole or which in whole)
        if differs or length not in (-1, count):
            raise RuntimeError(
                f"gathered: the {which} of layer {layer.name!r} is cut in different ways, its "
                f"parts have {count:.0f} numbers together; expected the same mesh and plan on all "
                "ranks"
            )


def _whole_shape(
    shape: tuple[int, ...], part: Part, batch: int, moments: Moments | None
) -> tuple[int, ...]:
    """The shape of a whole tensor on the batch of all processes; a part's where it is unknown.

    Args:
        shape: of the part.
        part: which it is.
        batch: the length of the whole along the batch.
        moments: of the whole, which say how many numbers it has; None where unknown.
    """
    if not shape:
        return shape
    whole = (batch, *(part.whole or shape)[1:])
    return whole if moments is None or math.prod(whole) == moments.count else shape
