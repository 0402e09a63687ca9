"""One forward of a net, measured."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TypeVar

import torch
from torch import Tensor, nn

from initfast.interception.deferred_tensor import resolved
from initfast.interception.function_mode import Fusion
from initfast.interception.module_calls import TORCHS_CALL, ModuleCall, Running, install, release
from initfast.interception.module_outputs import ModuleOutputs, computes_weights
from initfast.interception.queue import Queue
from initfast.interception.shorter_ways import ShorterWays
from initfast.interception.torch_patches import PLAIN_ARGUMENTS, VISIBLE_EXPORTS
from initfast.nets.names import NetNames
from initfast.nets.pytree import tensors
from initfast.profiling.nonfinite_parameters import with_nonfinite_parameters
from initfast.recording.gradients import Gradients
from initfast.recording.recorder import Recorder
from initfast.report.report import Report
from initfast.torch_state import leave_mode, mode_stack
from initfast.undo_log import UndoLog, with_undo_log

T = TypeVar("T")

UNFINISHED = "The net returned a generator: what it does when iterated was not measured."


class MeasuredForward:
    """One forward of a net, recorded.

    Args:
        names: of the net's modules.
        recorder: keeps what is measured.
        root: of the report.
        notes: what a reader must know of how the net runs.
        plain: torch's own functions make every value, so that not a bit of them differs.
    """

    def __init__(
        self,
        names: NetNames,
        recorder: Recorder,
        root: str,
        notes: Iterable[str] = (),
        plain: bool = False,
    ) -> None:
        self._names = names
        self._root = root
        self._notes = list(notes)
        self._recorder = recorder
        self._queue = Queue(recorder, names)
        self._running = Running(names)
        self._fusion = Fusion(recorder, names, self._running, self._queue, plain)
        self._outputs = ModuleOutputs(names, recorder, self._queue)

    @property
    def gradients(self) -> Gradients | None:
        """What measures the gradients; None where there are none to measure."""
        return self._recorder.gradients

    def run(self, forward: Callable[[], T], inputs: Iterable[Tensor]) -> T:
        """What the forward returns."""
        return with_undo_log(partial(self._run, forward, inputs))

    def _run(self, forward: Callable[[], T], inputs: Iterable[Tensor], log: UndoLog) -> T:
        log.add(self._queue.release)
        with_gradients = torch.is_grad_enabled()
        try:
            for t in inputs:
                self._recorder.net_input(t)
            output = with_undo_log(partial(self._intercepted, forward))
            for _, t in tensors(output):
                self._recorder.net_output(resolved(t))
            if isinstance(output, (Generator, Coroutine, AsyncGenerator)):
                self._notes.append(UNFINISHED)
            self._recorder.finish()
            return output
        except Exception:
            with suppress(Exception):  # a card that has failed
                self._recorder.finish()  # what the error may have come from
            raise
        except BaseException:  # may have come as the function mode saw the net leave its no_grad()
            torch._C._set_grad_enabled(with_gradients)
            raise

    def _intercepted(self, forward: Callable[[], T], log: UndoLog) -> T:
        """What the forward returns, with other calls in the place of the modules'."""
        self._running.thread = get_ident()
        calls = list(self._new_calls())
        log.add(release, calls)
        install(calls)
        for call in calls:
            if type(call.module).__call__ is not TORCHS_CALL:
                call.module.register_forward_hook(call.unless_running, with_kwargs=True)
        VISIBLE_EXPORTS.make(log)
        PLAIN_ARGUMENTS.make(log)
        log.add(leave_mode, self._fusion, mode_stack())
        self._fusion.__enter__()
        output = forward()
        self._queue.settle()
        return output

    def _new_calls(self) -> Iterator[ModuleCall]:
        names, running, after = self._names, self._running, self._outputs.after
        way = ShorterWays(self._fusion, self._outputs, self._recorder).of
        replicated = any(isinstance(module, nn.DataParallel) for module in names.modules)
        computing = {id(part) for m in names.modules if computes_weights(m) for part in m.modules()}
        for module, name in zip(names.modules, names.paths(), strict=True):
            computes = id(module) in computing
            if (what := after(module, computes)) is not None:
                short = None if replicated or computes else way(module)
                yield ModuleCall(module, name, running, what, short)

    def report(self) -> Report:
        """What was measured so far, copied from the devices."""
        names = self._names
        recording = self._recorder.read(names.paths(), names.modules, names.own_weights())
        notes, skipped = [*self._notes, *self._outputs.notes], list(self._outputs.skipped)
        if not recording.copies.nonfinite():
            return Report(recording.read, skipped=skipped, notes=notes, root=self._root)
        layers, inputs = recording.read()
        layers = with_nonfinite_parameters(layers, names.module)
        return Report(layers, inputs, skipped, notes, self._root)
