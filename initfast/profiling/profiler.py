"""Profiler: the calls of a net in a loop, measured and merged while the net does its work."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Collection
from dataclasses import replace
from functools import partial, reduce
from threading import get_ident
from types import MethodType, TracebackType
from typing import Any

import torch
from torch import nn

from initfast.interception.function_mode import profiling
from initfast.nets.names import NetNames
from initfast.nets.shards import runs_for_shapes
from initfast.profiling.arguments import ProfilerArguments
from initfast.profiling.compiled import is_compiled
from initfast.profiling.data_parallel import local
from initfast.profiling.first_bad_call import FirstBadCall, has_nonfinite
from initfast.profiling.measured_call import MeasuredCall
from initfast.profiling.profiled_calls import MethodCall, NetCall, ProfiledCall
from initfast.profiling.updates import Updates, with_lr
from initfast.recording.streams import CAPTURED, is_captured
from initfast.report.report import Report
from initfast.undo_log import UndoLog, with_undo_log


class Profiler:
    """Measure a net while it is called in a loop, and merge the calls into one report.

    Within the context, the first call of the net and every n-th after it are measured: what the
    net computes stays the same to the last bit, and so does what it writes and draws, for torch's
    own functions make every value. The report is that of one batch that holds all measured
    batches (Chan, Golub & LeVeque 1979); its weights are those of the last. What is kept does
    not grow with the calls. A call that raises raises what it would, and is not measured.

    Where a measured call makes a graph, the backward through it that the user runs fills each
    layer's `grad` and `weight_grad`, if it runs before the context ends. One backward may go
    through several calls, as of a contrastive loss (the last eight that are measured): each then
    has the gradients at its own outputs, and of each weight that of the whole loss. Several
    backwards through one call count as several batches; but those that make a graph themselves, as
    for a penalty on gradients, only where no other follows. Under DistributedDataParallel each rank
    has the report of its own batches, and `p.report().all_reduce()`, which every rank must call,
    that of all; the gradients at weights are then the ranks' own, before they are averaged.

    A net that `torch.compile` or `net.compile()` has changed runs eagerly in the calls that are
    measured; so do compiled functions that the net calls, unsaid. What torch runs by its fast path
    through attention in evaluation mode runs once more without it, for what is inside to be
    measured; the net goes on with the fast path's result. The report says both.

    A NaN is not traced to the function that made it: :func:`initfast.profile` does, on that batch.

    A KeyboardInterrupt leaves the net and torch as they were. But one that comes at the very moment
    when the context's end is called keeps it active: `p.__exit__(None, None, None)` ends it then.

    Args:
        net: a module; if compiled or wrapped, that which is called. Or a bound method of one, as
            net.training_step: each `net.training_step(...)` is a call then.
        every: measure one call out of so many.
        scaler: a torch.amp.GradScaler that the losses are scaled by: gradients are divided by its
            scale at the time of their backward. None: they are of the loss as it is given.
        optimizer: measure its step after a measured call, or after several that accumulate
            gradients, too: `report().scalars()` has what it changed, over what each weight was.
        lr: without an optimizer, report what plain gradient descent by this learning rate would
            change, as of :func:`initfast.profile`.
        measure: what else to measure, as of :func:`initfast.profile`.

    Attributes:
        calls: how many calls of the net there were.

    Raises:
        TypeError: net is no module nor a method of one, every no whole number, scaler no
            GradScaler, optimizer none, or lr given beside it or no number.
        ValueError: every is less than 1, lr not positive, or measure has a name that there is not.
        RuntimeError: on entering a context that is active already.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        >>> with initfast.Profiler(net, every=2) as p:
        ...     for x in torch.randn(6, 16, 8):
        ...         y = net(x)
        >>> p.report()[0].post.count  # 3 of the 6 batches, 16 x 8 values each
        384
    """

    def __init__(
        self,
        net: nn.Module | MethodType,
        every: int = 1,
        *,
        scaler: Any = None,
        optimizer: Any = None,
        lr: float | None = None,
        measure: str | Collection[str] = (),
    ) -> None:
        if isinstance(net, MethodCall):  # another Profiler is active
            net = net.method
        arguments = ProfilerArguments(
            net, every, scaler=scaler, optimizer=optimizer, lr=lr, measure=measure
        )
        self.calls = 0
        called: Any
        called, _, self._root = local(net)
        self._net: nn.Module = getattr(called, "__self__", called)
        self._arguments = replace(arguments, net=called)
        self._earlier: Report | None = None  # of the calls before the last window's end
        self._window: Report | None = None  # of those since, but for the recent ones
        self._was_entered = False
        self._was_captured = False
        self._has_measured = False
        self._raised = False  # a call that was to be measured
        self._recent: deque[MeasuredCall] = deque()  # their backwards may still come
        self._first_bad = FirstBadCall()
        self._updates = Updates(self._net)
        self._running = False
        self._unmeasured: set[int] = set()  # the threads in a call that is not measured
        self._is_compiled = False
        self._log: UndoLog | None = None  # of the context that is active

    def __enter__(self) -> Profiler:
        if self._log is not None:
            raise RuntimeError("Profiler: its context is active already; expected one at a time")
        self._is_compiled = is_compiled(self._net.modules())
        self._was_entered = True
        log, called = UndoLog(), self._arguments.net
        call: ProfiledCall = NetCall(self._net, self._call)
        if isinstance(called, MethodType):
            call = MethodCall(called, self._call)
        try:
            log.add(self._release_recent)
            log.add(call.release)
            call.install()
            every, optimizer = self._arguments.every, self._arguments.optimizer
            log.add(self._updates.watch(optimizer, lambda: self.calls % every == 0))
            self._log = log
            return self
        except BaseException:
            self._log = None
            log.undo(quiet=True)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        log, self._log = self._log, None
        if log is not None:
            try:
                log.undo()
            finally:  # an interrupt may come as undo is called
                log.undo(quiet=True)
        self._merge_all_but(0)

    def _release_recent(self) -> None:
        for call in self._recent:
            call.release()

    def report(self) -> Report:
        """The report of the calls measured so far; at any time, also after the context.

        It copies the last calls' numbers from their device.
        """
        known = [report for report in (self._earlier, self._window) if report is not None]
        return self._whole(known + [call.report() for call in self._recent])

    def window(self) -> Report:
        """The report of the calls measured since the last window, or since the start.

        One after each epoch, or after each hundred steps, makes a series over time. A call whose
        backward has not run yet is in the next window, with its gradients.

        Example:
            >>> net = torch.nn.Linear(8, 8)
            >>> with initfast.Profiler(net) as p, torch.no_grad():
            ...     means = []
            ...     for scale in (1.0, 10.0):
            ...         y = net(scale * torch.ones(4, 8))
            ...         means.append(p.window().inputs[0].mean)
            >>> means, p.report().inputs[0].mean
            ([1.0, 10.0], 5.5)
        """
        self._merge_all_but(_MOST_RECENT)
        window, self._window = self._window, None
        if window is not None:
            self._earlier = window if self._earlier is None else self._earlier.merge(window)
        return self._whole([] if window is None else [window])

    @property
    def first_nonfinite_call(self) -> int | None:
        """Which call of the net, counted from 1, was the first measured with a NaN or an infinity.

        In an output, a pre-activation or a gradient; None where all were finite so far.
        """
        return self._bad_so_far().call

    def _whole(self, reports: list[Report]) -> Report:
        """The report of all of these as one, with what a reader must know of the loop."""
        if reports:
            report = reduce(Report.merge, reports)
            bad = self._bad_so_far() if has_nonfinite(report) else FirstBadCall()
            notes = [bad.note] if bad.note else []
        else:
            report, bad = Report([], root=self._root), FirstBadCall()
            notes = [self._why_empty()]
        notes += [CAPTURED] if self._was_captured else []
        whole = report.replaced(notes=[*report.notes, *notes])
        updates = self._updates.found()
        whole.outcome = replace(whole.outcome, updates=updates, diverged=bad.diverged)
        return with_lr(whole, self._arguments.lr)

    def _why_empty(self) -> str:
        if not self.calls:
            return NEVER_CALLED if self._was_entered else NO_WITH
        return NO_CALL if self._has_measured or not self._raised else ALL_RAISED

    def _bad_so_far(self) -> FirstBadCall:
        """What is known of the first bad call, those included whose backwards may still come."""
        found = copy.deepcopy(self._first_bad)
        for call in self._recent:
            found.add(call.number, call.report())
        return found

    def _call(self, ours: ProfiledCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the net, measured if it is its turn."""
        within = self._running or get_ident() in self._unmeasured
        if within or profiling() or torch.compiler.is_compiling() or runs_for_shapes():
            return ours.as_before(args, kwargs)
        self.calls += 1
        if is_captured():
            self._was_captured = True
            return ours.as_before(args, kwargs)
        if (self.calls - 1) % self._arguments.every:
            self._unmeasured.add(get_ident())
            try:
                return ours.as_before(args, kwargs)
            finally:
                self._unmeasured.discard(get_ident())
        self._merge_all_but(_MOST_RECENT - 1)
        return with_undo_log(partial(self._measure, args, kwargs))

    def _measure(self, args: tuple[Any, ...], kwargs: dict[str, Any], log: UndoLog) -> Any:
        """What the net returns; the call is kept if it returns."""
        names = NetNames(self._net)
        known = self._arguments, names, self._root, self._is_compiled, self.calls
        call = MeasuredCall(*known, (args, kwargs))
        log.add(self._release_unless_kept, call)
        log.add(setattr, self, "_running", False)
        self._running = True
        called = self._arguments.net
        # A method is looked up as it is called: what measures it stands there now.
        net = getattr(self._net, called.__name__) if isinstance(called, MethodType) else called
        try:
            output = call.run(net, args, kwargs, log)
        except BaseException:
            self._raised = True
            raise
        self._has_measured = True
        self._recent.append(call)
        self._updates.is_due = True
        return output

    def _release_unless_kept(self, call: MeasuredCall) -> None:
        if call not in self._recent:
            call.release()

    def _merge_all_but(self, most: int) -> None:
        """Merge the first calls: those whose backwards have run, and what is more than most."""
        recent = self._recent
        while recent and (len(recent) > most or not recent[0].awaits_backward()):
            recent[0].release()
            report = recent[0].report()
            self._first_bad.add(recent[0].number, report)
            merged = report if self._window is None else self._window.merge(report)
            self._window = merged
            recent.popleft()


NEVER_CALLED = (
    "The net itself was never called while the Profiler was active, so that nothing was measured. "
    "Code that calls a part of it (as a training_step calls self.encoder) needs a Profiler of that "
    "part, initfast.Profiler(net.encoder), or of the method, initfast.Profiler(net.training_step)."
)

NO_WITH = (
    "The Profiler was never active, so that nothing was measured: the calls of the net must run "
    "within `with initfast.Profiler(net) as p:`."
)
ALL_RAISED = "No call of the net was measured: each that was to be raised, and such are left out."
NO_CALL = "No call was measured meanwhile; those that await their backward are in the next window."

_MOST_RECENT = 8
"""How many measured calls wait for their backwards at a time."""
