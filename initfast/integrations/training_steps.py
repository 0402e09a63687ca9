"""TrainingSteps: every n-th optimiser step of a training loop, measured whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeAlias

from torch import nn

from initfast.profiling.profiler import Profiler
from initfast.profiling.updates import Updates
from initfast.report.report import Report

Log: TypeAlias = Callable[[Mapping[str, float], int], Any]
"""Takes the scalars and the number of optimiser steps."""


class TrainingSteps:
    """Measures a net during every n-th optimiser step: all its micro-batches, then the update.

    Under gradient accumulation one step has several forwards and backwards. The report is that of
    all of them as one batch, the update is counted once. At a measured step the trainable
    parameters are kept twice, so that the update is what the optimizer did, not what a learning
    rate says.

    Args:
        every: measure one optimiser step out of so many, the first among them.

    Attributes:
        report: of the last step that was measured; None before.
        scalars: the same as numbers by tag, with `initfast/updates/PARAMETER/to_weight`, the rms of
            the update over that of the weight before, and `initfast/updates/PARAMETER/gradient`,
            the rms of the accumulated gradient.

    Raises:
        ValueError: every is no whole number from 1 up.
    """

    def __init__(self, every: int = 100) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every is {every!r}; expected a whole number from 1 up")
        self.every = every
        self.report: Report | None = None
        self.scalars: dict[str, float] = {}
        self._contexts: ExitStack | None = None
        self._profilers: dict[str, Profiler] = {}
        self._updates: Updates | None = None

    def begin(self, net: nn.Module, step: int) -> None:
        """Before each micro-batch; within a step that is measured already it does nothing.

        Args:
            net: what is trained.
            step: how many optimiser steps there were.
        """
        if self._contexts is not None or step % self.every:
            return
        self._updates = Updates(net)
        # Where a loop calls parts of the net and not the net, as a training_step does, these count.
        parts = {"": net, **dict(net.named_children())}
        self._profilers = {name: Profiler(part) for name, part in parts.items()}
        self._contexts = ExitStack()
        for profiler in self._profilers.values():
            self._contexts.enter_context(profiler)

    def before_update(self) -> None:
        """When all gradients are there, just before the optimizer's step."""
        if self._contexts is not None and self._updates is not None and not self._updates.awaited:
            self._updates.before()

    def end(self) -> bool:
        """After each micro-batch: whether a measured step is over, and the results are there."""
        updates = self._updates
        if self._contexts is None or updates is None or not updates.awaited:
            return False
        updates.after()
        self.close()
        self.report = _whole({name: p.report() for name, p in self._profilers.items()})
        self.report.outcome = replace(self.report.outcome, updates=updates.found())
        self.scalars = self.report.scalars()
        self._profilers = {}
        return True

    def close(self) -> None:
        """Measure nothing more; also where training was interrupted."""
        contexts, self._contexts = self._contexts, None
        self._updates = None
        if contexts is not None:
            contexts.close()


def _whole(reports: Mapping[str, Report]) -> Report:
    """The report of the net if it was called itself, else of its parts, under their names."""
    whole = reports[""]
    if whole.layers:
        return whole
    layers = [
        replace(
            layer,
            name=".".join(filter(None, (part, layer.name))),
            also=tuple(".".join(filter(None, (part, name))) for name in layer.also),
            parameter=f"{part}.{layer.parameter}" if layer.parameter else "",
        )
        for part, report in reports.items()
        for layer in report.layers
    ]
    notes = [note for part, report in reports.items() if part and report for note in report.notes]
    return Report(layers, notes=list(dict.fromkeys(notes)), root=whole.root)
