"""A second run of a net that has made NaN or infinities, which finds where they begin.

It starts from the same random state, buffers and attributes of modules, and every operator is
watched. What it changes is put back: the net stays as the first run has left it.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack, _pop_mode

from initfast.diagnosis.net import Net
from initfast.interception.module_calls import ReplacedCall, install, release
from initfast.nets.names import NetNames
from initfast.nets.pytree import tensors
from initfast.profiling import compiled
from initfast.profiling.arguments import NO_TARGETS, ProfileArguments
from initfast.profiling.buffers import put_attributes_back
from initfast.profiling.first_run import FirstRun
from initfast.profiling.kept_values import KeptValues
from initfast.profiling.nonfinite_watch import NonfiniteWatch, Result, paths_of
from initfast.profiling.restore import Found, put_back_later
from initfast.report.report import Report
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.nonfinite_source import NonfiniteSource
from initfast.thresholds import limits
from initfast.undo_log import UndoLog, with_undo_log


class _Enough(BaseException):
    """Ends the second run: the source is found."""


def find_source(
    report: Report,
    arguments: ProfileArguments,
    call: Callable[[], Any],
    names: NetNames,
    was: Found,
) -> NonfiniteSource | None:
    """Where the first non-finite values of a report begin, which does harm; None where unknown.

    Nothing is looked for where there are none, where they are a mask's, where the layer's own
    parameters had them, where the forward has changed its input, and where ranks work together,
    which would wait for each other.

    Args:
        report: of the first run.
        arguments: of :func:`initfast.profile`.
        call: runs the net.
        names: of its modules.
        was: the random state and the modules before the first run.

    Raises:
        BaseException: what interrupts it; what the net raises is left out.
    """
    wanted = _wanted(report)
    if wanted is None or _are_ranks() or not _same_inputs(arguments.x, report.inputs):
        return None
    layer, where = wanted
    trace = _Trace(arguments, call, names, was, layer)
    with suppress(Exception):
        with_undo_log(partial(trace.run, where))
    if trace.source is None:
        return None
    name, op = ("", "") if layer is None else (layer.name, layer.op)
    return replace(trace.source, seen_in=where, layer=name, op=op)


def _wanted(report: Report) -> tuple[Layer | None, Any] | None:
    """The layer to explain, or else the loss or a gradient; None where nothing is unexplained."""
    i = Net(report.layers, report.inputs, limits(None), report.root).first_nonfinite
    if i is not None:
        layer = report.layers[i]
        weight = layer.weight is not None and layer.weight.moments.nonfinite
        return None if layer.nonfinite_parameters or weight else (layer, "layer")
    if report.loss is not None and not math.isfinite(report.loss):
        return None, "loss"
    grads = [m for x in report.layers for m in (x.grad, x.weight_grad, *x.weight_grads.values())]
    return (None, "gradient") if any(m is not None and m.nonfinite for m in grads) else None


def _are_ranks() -> bool:
    ranks = torch.distributed
    return ranks.is_available() and ranks.is_initialized() and ranks.get_world_size() > 1


def _same_inputs(x: Any, before: Sequence[Moments]) -> bool:
    """Whether the net's inputs are still what they were when the first run began."""

    def known(them: Sequence[Moments]) -> set[tuple[float, ...]]:
        return {(m.count, m.nonfinite, m.min, m.max) for m in them}

    try:
        now = [Moments.of(t) for _, t in tensors(x) if t.is_floating_point()]
    except (TypeError, ValueError):
        return False
    return known(before) <= known(now)


class _TracedCall(ReplacedCall):
    """Keeps the path of the module that runs."""

    __slots__ = ("_ended", "_running", "name")

    def __init__(
        self, module: nn.Module, name: str, running: list[str], ended: Callable[[str], None]
    ) -> None:
        super().__init__(module)
        self.name, self._running, self._ended = name, running, ended

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns."""
        self._running.append(self.name)
        try:
            output = self.as_before(args, kwargs)
        finally:
            self._running.pop()
        self._ended(self.name)
        return output


class _Trace:
    """One watched run.

    Attributes:
        source: what was found so far.
    """

    def __init__(
        self,
        arguments: ProfileArguments,
        call: Callable[[], Any],
        names: NetNames,
        was: Found,
        layer: Layer | None,
    ) -> None:
        self.source: NonfiniteSource | None = None
        self._arguments = arguments
        self._targets = [] if arguments.targets is NO_TARGETS else [arguments.targets]
        self._call = call
        self._names = names
        self._was = was
        self._layer = layer
        self._running: list[str] = []
        self._likeness = -1  # of the best result so far to the layer's

    def run(self, where: str, log: UndoLog) -> None:
        """Run the net, and what is needed after it, under watch."""
        modules = self._names.modules
        put_back_later(modules, log)
        kept = KeptValues(modules, (self._arguments.x, self._targets))
        log.add(kept.put_back)
        log.add(random.setstate, random.getstate())
        if "numpy" in sys.modules:
            numpy_random = sys.modules["numpy"].random
            log.add(numpy_random.set_state, numpy_random.get_state())
        log.add(FirstRun(modules).put_back)
        for module, found in self._was.attributes():
            put_attributes_back(module, found)
        compiled.run_eagerly(log)
        log.add(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)  # as in the first run
        paths = list(self._names.paths())
        calls = [
            _TracedCall(module, path, self._running, self._ended)
            for module, path in zip(modules, paths, strict=True)
        ]
        log.add(release, calls)
        install(calls)
        watch = NonfiniteWatch(self._running, self._see, kept.before_write, _watched.__code__)
        self._introduce(watch, paths)
        _set_gradients(self._arguments.objective is not None, where, log)
        log.add(_leave, watch)
        watch.__enter__()
        with suppress(_Enough):
            _watched(partial(self._run, watch, where))

    def _introduce(self, watch: NonfiniteWatch, paths: Sequence[str]) -> None:
        """Let the watch know what is there before the net runs."""
        x, targets = self._arguments.x, self._targets
        for t, kind, path in paths_of(zip(paths, self._names.modules, strict=True)):
            watch.know(t, kind, path)
        for path, t in tensors(x):
            watch.know(t, "input", f"the net's input{path}")
        for _, t in tensors(targets):
            watch.know(t, "constant", "the targets")

    def _run(self, watch: NonfiniteWatch, where: str) -> None:
        arguments = self._arguments
        output = self._call()
        if where == "layer" or arguments.objective is None:
            return
        value = arguments.objective(output, *self._targets)
        if where == "loss":
            self.source = watch.source(value)
            return
        own = [p for m in self._names.modules for p in m._parameters.values() if p is not None]
        ends = [t for t in (*own, *(t for _, t in tensors(arguments.x))) if t.requires_grad]
        if arguments.scaler is not None:
            value = arguments.scaler.scale(value)
        for grad in torch.autograd.grad(value, ends, allow_unused=True):
            if grad is not None and (source := watch.source(grad)) is not None:
                self.source = source
                return

    def _see(self, result: Result) -> None:
        """Whether this is what the layer has shown: so many values, so many of them not finite."""
        layer = self._layer
        if layer is None:
            return
        bad = layer.post if layer.post.nonfinite or layer.pre is None else layer.pre
        if result.size != bad.count or not self._is_within(result.module, layer):
            return
        likeness = (
            2 * (result.nonfinite == bad.nonfinite)
            + 2 * (layer.has_nan in (None, result.has_nan))
            + layer.op.lower().startswith(result.name.replace("_", "")[:4])
        )
        if likeness > self._likeness:
            self.source, self._likeness = result.source, likeness
        if likeness == _ALIKE + 1:
            raise _Enough

    def _ended(self, path: str) -> None:
        """The module of this path has ended."""
        if self._layer is not None and self._likeness >= _ALIKE and path in self._layer.names:
            raise _Enough

    def _is_within(self, path: str, layer: Layer) -> bool:
        """Whether a function that ran in the module of this path can have made the layer's values.

        It runs in one of the modules whose output it is, in a part of one, or right around it.
        """
        if not self._names.paths():
            return True
        return any(
            path == name
            or not name
            or path.startswith(f"{name}.")
            or name.rpartition(".")[0] == path
            for name in layer.names
        )


_ALIKE = 4
"""Of a result with as many values, as many of them not finite, and NaN among them alike."""


def _watched(run: Callable[[], None]) -> None:
    """Run it; plain code of the net is what runs within."""
    run()


def _set_gradients(wanted: bool, where: str, log: UndoLog) -> None:
    """As in the first run; to explain a gradient, a graph keeps the lines of code that made it."""
    if not wanted:
        log.add(torch._C._set_grad_enabled, torch.is_grad_enabled())
        torch._C._set_grad_enabled(False)
        return
    inference = torch._C._InferenceMode(False)
    log.add(inference.__exit__, None, None, None)
    inference.__enter__()
    if where == "gradient":
        found = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
        log.add(torch.set_anomaly_enabled, *found)
        torch.set_anomaly_enabled(True, False)


def _leave(watch: NonfiniteWatch) -> None:
    while any(mode is watch for mode in _get_current_dispatch_mode_stack()):
        _pop_mode()
