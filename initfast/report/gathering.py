"""The report of a whole net on the batch of all processes, from the reports of each.

Every process says which layers it has run, once for each different list. Their numbers are rows of
moments: a row is merged with its counterparts by one process, and comes back to all. What is
counted by unit is reduced.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from initfast.collectives import DIGEST_BYTES, Distinct, merge_rows, share_distinct, spelled
from initfast.nets.shards import NOTE as LOCAL
from initfast.report.global_rows import (
    COLUMNS,
    SHARE,
    GlobalLayers,
    GlobalRows,
    merged_row,
    moments_of_row,
)
from initfast.report.global_units import bytes_by_unit, reduced_by_unit
from initfast.report.listing import Listing, listed, whole_net
from initfast.stats.layer import Layer
from initfast.stats.layer_moments import tensors_of
from initfast.stats.moments import Moments
from initfast.stats.outcome import CrossEntropy, RunOutcome


class Gathered(NamedTuple):
    """What is known of the whole net; the arguments of :class:`initfast.Report`."""

    layers: list[Layer]
    inputs: list[Moments]
    skipped: list[Any]
    notes: list[str]
    root: str
    run: Any
    outcome: RunOutcome


def gather_report(report: Any, group: Any) -> Gathered:
    """The whole net's report; collective.

    Args:
        report: of this process.
        group: of torch.distributed's.

    Raises:
        RuntimeError: a rank cannot take part, its list of layers differs, or it did not come.
    """
    cause: Exception | None = None
    try:
        mine = listing_of(report)
    except Exception as error:  # the others wait for what it should have been
        cause, mine = error, Listing(failure=spelled(error))
    listings = share_distinct(mine.in_common, mine, group)
    try:
        net = whole_net(listings)
    except RuntimeError as error:
        raise error from cause
    lists: list[Listing] = [value for value, _ in listings]
    first = min(lists, key=lambda each: each.stage)
    last = next((each for each in lists if each.has_loss), Listing())
    rank = torch.distributed.get_rank(group)
    rows = GlobalRows(net, first.inputs, 1 + len(last.classes) if last.has_loss else 0)
    found = merge_rows(rows.filled(report, mine, first, last, rank), merged_row, group)
    layers = GlobalLayers(net, found, reduced_by_unit(net, report.layers, group)).layers()
    values = [moments_of_row(row) for row in found[rows.of_layers :]]
    inputs, losses = values[: first.inputs], values[first.inputs :]
    said = dict.fromkeys(note for each in lists for note in each.notes if note != LOCAL)
    notes = [*said, *_notes(layers, found, torch.distributed.get_world_size(group))]
    skipped = list(dict.fromkeys(item for each in lists for item in each.skipped))
    source = next((each.source for each in lists if each.source), None)
    outcome = RunOutcome(
        tuple(map(_value, losses[:1])),
        tuple(map(CrossEntropy, last.classes, map(_value, losses[1:]))),
        source,
        report.outcome.updates,
        waiting=report.outcome.waiting,
    )
    return Gathered(layers, inputs, skipped, notes, lists[0].root, lists[0].run, outcome)


def listing_of(report: Any) -> Listing:
    """What this process says once."""
    if report.processes > 1:
        raise ValueError(
            f"its report is that of {report.processes} processes already; expected the report of "
            "one, gathered once"
        )
    known = [found for x in report.layers for _, _, found, _ in tensors_of(x)]
    if any(each.nan is None or each.m4 is None for each in (*known, *report.inputs)):
        raise ValueError("its report was written by an older initfast; expected one of this run")
    layers, tensors = listed(report.layers)
    outcome = report.outcome
    return Listing(
        layers=layers,
        tensors=tensors,
        inputs=len(report.inputs),
        has_loss=bool(outcome.losses),
        classes=tuple(each.classes for each in outcome.cross_entropies),
        root=report.root,
        notes=tuple(report.notes),
        skipped=tuple(report.skipped),
        run=report.run,
        source=outcome.source,
    )


def _value(loss: Moments) -> float:
    """The mean loss; NaN where any is not finite."""
    return math.nan if loss.nonfinite else loss.mean


class Traffic(NamedTuple):
    """What it takes a process to gather a report.

    Attributes:
        messages: how many collectives there are.
        received: the bytes of their results.
        rows: the bytes of the rows of moments of one process, among them.
    """

    messages: int
    received: int
    rows: int


def traffic(listings: Sequence[Listing], ranks: int) -> Traffic:
    """What gathering a report costs each process, whose results :func:`gather_report` waits for.

    Args:
        listings: the different ones.
        ranks: how many processes there are.
    """
    net = whole_net([Distinct(each, (i,)) for i, each in enumerate(listings)])
    first = min(listings, key=lambda each: each.stage)
    losses = max(1 + len(each.classes) if each.has_loss else 0 for each in listings)
    count = sum(len(each.measured) for each in net.tensors) + first.inputs + losses
    share = -(-count // ranks)
    said = DIGEST_BYTES * ranks + sum(len(pickle.dumps(each)) for each in listings)
    rows = _NUMBER * COLUMNS * share * ranks
    rounds_by_unit, by_unit = bytes_by_unit(net)
    rounds = 1 + len(listings) + (2 if count else 0) + rounds_by_unit
    return Traffic(rounds, said + 2 * rows + by_unit, _NUMBER * COLUMNS * count)


_NUMBER = 8
"""Bytes of a float64, or an int64."""


# ---- notes ----


def _notes(layers: Sequence[Layer], rows: Tensor, processes: int) -> Iterator[str]:
    """What a reader must know of how the numbers came together."""
    batches = round(rows[:, SHARE].max().item()) if len(rows) else 1
    yield (
        f"Gathered from {processes} processes: the numbers are those of the whole net"
        + (f" on {batches} batches as one." if batches > 1 else ".")
    )
    if batches > 1 and any("BatchNorm" in base for x in layers for base in (x.type, *x.bases)):
        yield "BatchNorm: each process normalised its own batch."
    if any("Dropout" in kind for x in layers for kind in (x.type, *x.also_types)):
        yield "Dropout: each process dropped other values than one process alone would."
    if batches > 1 and any(x.grad and x.weight and not x.weight_grad for x in layers):
        yield (
            "Gradients at weights are left out where processes have their own, which were not "
            "averaged yet."
        )
