"""One forward of a net, measured."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import suppress
from functools import partial
from itertools import chain
from math import isfinite
from threading import get_ident
from typing import TypeVar

import torch
from torch import Tensor, nn

from initfast.interception.deferred_tensor import resolved
from initfast.interception.module_calls import TORCHS_CALL, ModuleCall, Running, install, release
from initfast.interception.module_outputs import ModuleOutputs, computes_weights
from initfast.interception.queue import Queue
from initfast.interception.sharded_functions import TOLD_PARTS
from initfast.interception.shorter_ways import ShorterWays
from initfast.interception.torch_patches import PLAIN_ARGUMENTS, VISIBLE_EXPORTS
from initfast.nets.names import NetNames
from initfast.nets.pytree import tensors
from initfast.nets.settings import settings_and_vectors
from initfast.nets.shards import local_part
from initfast.ops.library import load
from initfast.profiling.extensions import fusion_of
from initfast.profiling.fast_path import FastPaths
from initfast.profiling.graph_facts import with_graph_facts
from initfast.profiling.missing_kernels import missing_kernels
from initfast.profiling.nonfinite_parameters import with_nonfinite_parameters
from initfast.profiling.progress import Progress, count_calls
from initfast.profiling.restore import Found
from initfast.recording.facts_at_end import FactsAtEnd
from initfast.recording.gradients import Gradients
from initfast.recording.recorder import Recorder
from initfast.recording.sharded_recorder import ShardedRecorder
from initfast.recording.stop_at_nonfinite import NonFinite
from initfast.report.report import Report
from initfast.report.run_facts import RunFacts, run_facts
from initfast.stats.outcome import CrossEntropy, RunOutcome
from initfast.torch_state import leave_mode, mode_stack
from initfast.undo_log import UndoLog, with_undo_log

T = TypeVar("T")

UNFINISHED = (
    "The net returned a generator: what it does when iterated was not measured. For a generator "
    "function f, initfast.profile(lambda x: list(f(x)), x) measures it."
)


class MeasuredForward:
    """One forward of a net, recorded.

    Args:
        names: of the net's modules.
        recorder: keeps what is measured.
        root: of the report.
        notes: what a reader must know of how the net runs.
        plain: torch's own functions make every value, so that not a bit of them differs.
        progress: is told of each call of a module that is done.

    Attributes:
        names: likewise.
        found: the random state and the modules as they were before, once it runs.
        loss: what was made of its output, if anything was.
        cross_entropies: that this took, each with the number of its classes.
        is_sound: whether all that the report has is finite.
    """

    def __init__(
        self,
        names: NetNames,
        recorder: Recorder,
        root: str,
        notes: Iterable[str] = (),
        plain: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.names = names
        self.found: Found | None = None
        self.loss: Tensor | None = None
        self.cross_entropies: Sequence[tuple[int, Tensor]] = ()
        self.is_sound = True
        self._root = root
        self._notes = list(notes)
        self._recorder = recorder
        self._progress = progress
        self._queue = Queue(recorder)
        self._running = Running(names)
        self._fusion = fusion_of(recorder)(recorder, names, self._running, self._queue, plain)
        self._outputs = ModuleOutputs(names, recorder, self._queue)
        self._fast = FastPaths(names.modules if plain else [], self._running, self._queue, recorder)
        self._run_facts: RunFacts | None = None
        self._facts: FactsAtEnd | None = None

    @property
    def gradients(self) -> Gradients | None:
        """What measures the gradients; None where there are none to measure."""
        return self._recorder.gradients

    def run(self, forward: Callable[[], T], inputs: Sequence[Tensor]) -> T:
        """What the forward returns."""
        return with_undo_log(partial(self._run, forward, inputs))

    def _run(self, forward: Callable[[], T], inputs: Sequence[Tensor], log: UndoLog) -> T:
        log.add(self._queue.release)
        with_gradients = torch.is_grad_enabled()
        try:
            for t in inputs:
                self._recorder.net_input(t)
            self._run_facts = run_facts(chain(self.names.parameters(), inputs))
            output = with_undo_log(partial(self._intercepted, forward))
            for _, t in tensors(output):
                self._recorder.net_output(local_part(resolved(t)))
            self._facts = self._facts_now()
            if isinstance(output, (Generator, Coroutine, AsyncGenerator)):
                self._notes.append(UNFINISHED)
            self._recorder.finish()
            return output
        except Exception:
            with suppress(Exception):  # a card that has failed
                self._recorder.finish()  # what the error may have come from
            raise
        except NonFinite:  # where the profile is to stop
            self._facts = self._facts_now()
            raise
        except BaseException:  # may have come as the function mode saw the net leave its no_grad()
            torch._C._set_grad_enabled(with_gradients)
            raise

    def _intercepted(self, forward: Callable[[], T], log: UndoLog) -> T:
        """What the forward returns, with other calls in the place of the modules'."""
        self._running.thread = get_ident()
        calls = list(self._new_calls())
        if self._progress is not None:
            count_calls(calls, self._progress, "forward")
        inner = self._fast.calls
        log.add(release, [*calls, *inner])
        install([*inner, *calls])
        for call in calls:
            if type(call.module).__call__ is not TORCHS_CALL:
                call.module.register_forward_hook(call.unless_running, with_kwargs=True)
        VISIBLE_EXPORTS.make(log)
        PLAIN_ARGUMENTS.make(log)
        if isinstance(self._recorder, ShardedRecorder):
            TOLD_PARTS.make(log)
        log.add(leave_mode, self._fusion, mode_stack())
        self._fusion.__enter__()
        output = forward()
        self._queue.settle()
        return output

    def _new_calls(self) -> Iterator[ModuleCall]:
        names, running, after = self.names, self._running, self._outputs.after
        way = ShorterWays(self._fusion, self._outputs, self._recorder).of
        go_the_usual_way = isinstance(self._recorder, ShardedRecorder) or any(
            isinstance(module, nn.DataParallel) for module in names.modules
        )
        computing = {id(part) for m in names.modules if computes_weights(m) for part in m.modules()}
        for module, name in zip(names.modules, names.paths(), strict=True):
            computes = id(module) in computing
            if (what := after(module, computes)) is not None:
                short = None if go_the_usual_way or computes else way(module)
                yield ModuleCall(module, name, running, what, short)

    def _facts_now(self) -> FactsAtEnd:
        """What of each module but its weight decides the scale of its output, as it is now."""
        with torch._C.DisableTorchFunction():
            found = settings_and_vectors(self.names.paths(), self.names.modules)
            return self._recorder.facts_at_end(*found)

    def report(self) -> Report:
        """What was measured so far, copied from the devices."""
        names = self.names
        if self.loss is not None:
            for x in (self.loss, *(x for _, x in self.cross_entropies)):
                self._recorder.add_number(x)
        recording = self._recorder.read(
            names.paths(), names.modules, names.own_weights(), self._facts
        )
        device = "" if self._run_facts is None else self._run_facts.device
        notes = [
            *self._notes,
            *self._fast.notes([*self._outputs.notes]),
            *missing_kernels(load(), device),
        ]
        outcome = _outcome([n for n, _ in self.cross_entropies], recording.copies.numbers)
        self.is_sound = not recording.copies.nonfinite() and all(map(isfinite, outcome.losses))
        if self.gradients is not None and self.gradients.root is not None:
            outcome = with_graph_facts(outcome, names, self.gradients, recording)
        beside = (list(self._outputs.skipped), notes, self._root, self._run_facts, outcome)
        if not recording.copies.nonfinite():
            return Report(recording.read, (), *beside)
        layers, inputs = recording.read()
        return Report(with_nonfinite_parameters(layers, names.module), inputs, *beside)


def _outcome(classes: Sequence[int], numbers: Sequence[float]) -> RunOutcome:
    """Of the loss, and of the cross-entropies that it took; of no numbers without a loss."""
    return RunOutcome(tuple(numbers[:1]), tuple(map(CrossEntropy, classes, numbers[1:])))
