"""Reports made one: of batches that follow each other, and of processes that work together."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import reduce
from typing import Any, TypeVar

import torch

from initfast.collectives import gather, is_alone
from initfast.errors import kind_of
from initfast.report.exports import Exports
from initfast.report.run_facts import RunFacts
from initfast.stats.layer import Layer, Skipped
from initfast.stats.merge import merge_layers, pairwise, stage_of, with_shared_loss
from initfast.stats.moments import Moments
from initfast.stats.outcome import RunOutcome

R = TypeVar("R", bound="Merging")


class Merging(Exports):
    """A report that may be merged with others of the same net; see :class:`initfast.Report`."""

    skipped: list[Skipped]
    notes: list[str]
    root: str
    run: RunFacts | None
    outcome: RunOutcome
    processes: int

    def replaced(
        self: R,
        layers: Sequence[Layer] | None = None,
        skipped: Sequence[Skipped] | None = None,
        notes: Sequence[str] | None = None,
        inputs: Sequence[Moments] | None = None,
    ) -> R:
        """This report with others of these; findings are found anew."""
        new = copy(self)
        for found in ("_diagnosis", "predicted"):
            new.__dict__.pop(found, None)
        of_layers = list(self.layers if layers is None else layers)
        new.__dict__["_contents"] = of_layers, self.inputs if inputs is None else tuple(inputs)
        new.skipped = list(self.skipped if skipped is None else skipped)
        new.notes = list(self.notes if notes is None else notes)
        return new

    def merge(self: R, other: R) -> R:
        """The report of the two batches as one: layers of the same name, op and call merge exactly.

        Args:
            other: of a later batch of the same net.

        Returns:
            A new report. The weights are the other's; shapes add in their first dimension.

        Raises:
            TypeError: other is no report.

        Example:
            >>> net = torch.nn.Linear(4, 2)
            >>> both = initfast.profile(net, torch.ones(3, 4)).merge(
            ...     initfast.profile(net, torch.zeros(5, 4))
            ... )
            >>> both[0].shape, both[0].post.count
            ((8, 2), 16)
        """
        if not isinstance(other, Merging):
            raise TypeError(f"Report.merge: other is {kind_of(other)}; expected a Report")
        merged = self.replaced(
            merge_layers(self.layers, other.layers),
            list(dict.fromkeys([*self.skipped, *other.skipped])),
            list(dict.fromkeys([*self.notes, *other.notes])),
            _inputs(self, other),
        )
        merged.root = self.root if self.root == other.root else ""
        merged.run = self.run or other.run
        merged.outcome = self.outcome.merge(other.outcome)
        merged.processes = max(self.processes, other.processes)
        return merged

    def all_reduce(self: R, group: Any = None) -> R:
        """The report of the batch that all ranks have together, the same on each; collective.

        One exchange for the whole report. The loss of that batch is the mean of the ranks' losses:
        gradients at outputs are divided by the number of ranks, and those at weights are merged
        unless all ranks have the same.

        Args:
            group: of torch.distributed's; None: the default group. Where there is none, nothing
                is merged.

        Returns:
            This report where a process is alone, else a new one.
        """
        ranks = gather(self, group)
        if len(ranks) == 1:
            return self
        whole = reduce(type(self).merge, ranks)
        layers = with_shared_loss(whole.layers, [rank.layers for rank in ranks])
        whole.processes = len(ranks)
        return whole.replaced(layers)

    def gathered(self: R, group: Any = None) -> R:
        """The report of the whole net on the batch of all processes, the same on each; collective.

        Where processes share a tensor, as under tensor parallelism, its parts add up and copies of
        it count once; the batches of data parallelism add up, and with each of them what no batch
        changes, as an embedding of positions; the stages of a pipeline follow each other, if a
        schedule of torch.distributed.pipelining runs them; else modules must have the names that
        they have in the whole net, or stages would be taken for copies. A process that runs several
        stages merges their reports first. Layers match by name, op and call.

        The loss is the mean of the batches' losses (in a pipeline of the micro-batches', where its
        schedule averages their gradients), and gradients at outputs are those of this loss. A
        weight's are of each backward, as a Profiler has them, and left out where processes have
        gradients of their own that nobody averaged.

        What a process sends does not grow with their number: each merges a share of the layers
        (:func:`initfast.collectives.merge_rows`), and sums and maxima of units are reduced. What
        `measure=` asks for is left out.

        Args:
            group: of torch.distributed's, of all processes that run the net; None: the default
                group. Where there is none, or this process is no part of it, nothing is gathered.

        Returns:
            This report where a process is alone, else a new one.

        Raises:
            RuntimeError: on all ranks, naming one: it has no report, or one that is gathered
                already; it has run other layers, or measured other tensors of them; or it did not
                come within the group's time-out. Likewise, naming a layer: ranks cut its weight in
                different ways, or, of one of torch's own modules, have weights of other sizes.

        Example:
            >>> report = initfast.profile(torch.nn.Linear(4, 2), torch.ones(3, 4))
            >>> report.gathered() is report  # where nothing is distributed
            True
        """
        if is_alone(group):
            return self
        from initfast.report.gathering import gather_report  # when there is a need

        found = gather_report(self, group)
        whole = self.replaced(found.layers, found.skipped, found.notes, found.inputs)
        whole.root, whole.run, whole.outcome = found.root, found.run, found.outcome
        whole.processes = torch.distributed.get_world_size(group)
        return whole


def _inputs(a: Merging, b: Merging) -> tuple[Moments, ...]:
    """Those of the net: of both batches, or of the earlier one of two stages of a pipeline."""
    first, second = (stage_of(x.layers[0]) if x.layers else -1 for x in (a, b))
    if first == second or -1 in (first, second):
        return pairwise(a.inputs, b.inputs)
    return a.inputs if first < second else b.inputs
