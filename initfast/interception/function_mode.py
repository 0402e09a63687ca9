"""Sees a layer and the activation that follows, and runs or measures the two as one operator.

While a :class:`Fusion` is active, ``F.linear`` returns a :class:`DeferredTensor`: a tensor that
knows its shape and not yet its values. An activation applied to it runs the pair as ``linear_act``,
or has it wait, too, for the pairs that follow; :mod:`initfast.interception.queue` tells what waits
and until when. User code sees the values that it would see without.

Where a profile has a loss, a pair runs as an operator with a graph of its own; a layer that no
activation follows runs as torch's, and so does a pair whose pre-activation somebody holds. Where
else gradients flow, under autocast, or where another tool watches the dispatcher, torch's own
functions make the values, and the operators only measure them.

A function mode does not see NumPy write into memory shared with a tensor, nor an extension that is
called past the dispatcher: those must not change what a layer reads between the layer and the first
use of its result, and an extension that asks such a result for its memory is refused. Other threads
may use results at any time; the layers themselves are run by one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import Parameter
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from initfast.interception.deferred_tensor import DeferredTensor, LinearCall, Link, resolved
from initfast.interception.function_effects import HARMLESS
from initfast.interception.module_calls import Running
from initfast.interception.other_functions import OtherFunctions, run_plainly
from initfast.interception.queue import Queue
from initfast.interception.undisturbed import run_untraced
from initfast.nets.activation_calls import FORMS, Call, read_call
from initfast.nets.names import NetNames, mismatch
from initfast.ops.dispatch import fits, kernels_of, linear_kernels
from initfast.recording.events import Source
from initfast.recording.recorder import Recorder
from initfast.torch_state import (
    autocast_enabled,
    grad_enabled,
    is_traced,
    mode_at,
    modes,
    modes_enabled,
    observed,
    refuses_writes,
    saved_tensor_hooks,
    torchs_linear,
    transforms,
)

_PLAIN = (Tensor,)  # what torch says of plain tensors given to a function written in Python
_ORDINARY = frozenset((Tensor, Parameter, DeferredTensor))


class Fusion(TorchFunctionMode):
    """Runs each linear layer together with its activation, and records both.

    Args:
        recorder: keeps what is measured.
        names: of the net's modules.
        running: those that run.
        queue: what has not run or is not measured yet.
        plain: torch's own functions make every value, and the operators only measure.
    """

    def __init__(
        self,
        recorder: Recorder,
        names: NetNames,
        running: Running,
        queue: Queue,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.recorder = recorder
        self.names = names
        self.running = running
        self.queue = queue
        self.watches_only = plain  # the user's own call, which a Profiler measures
        self._plain = plain or _others_watch()
        self._functions = OtherFunctions(recorder, running, queue)
        self._looks_at_all = recorder.stops
        self._looked_at = FORMS.keys() | {torchs_linear} | self._functions.looked_at

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Most calls are of these: that they go the shortest way decides what a profile costs.
        is_usual = (not types or types == _PLAIN) and not self._looks_at_all
        if is_usual and not (func in self._looked_at or is_traced()):
            if func not in HARMLESS or (kwargs and "out" in kwargs):
                self.queue.settle()
            return func(*args, **kwargs) if kwargs else func(*args)
        if is_traced():  # torch.jit.trace writes down whatever runs
            args, kwargs = run_untraced(self._settled, (args, kwargs or {}))
            return func(*args, **kwargs)
        if (not types or _ORDINARY.issuperset(types)) and transforms() is None:
            if (form := FORMS.get(func)) is not None:
                call = form.plain if len(args) == 1 and not kwargs else None
                call = call or read_call(form, args, kwargs or {})
                if call is not None:
                    z = args[0] if args else kwargs["input"]  # type: ignore[index]
                    return self._activation(call, z, func, args, kwargs or {})
            elif func is torchs_linear:
                return self.linear(*args, **(kwargs or {}))
        return self._functions.call(func, args, kwargs or {}, types)

    def _settled(self, arguments: Any) -> Any:
        """A function's arguments with their values, where nothing waits any longer."""
        self.queue.settle()
        return resolved(arguments)

    def is_called_first(self) -> bool:
        """Whether a function called now comes here before anybody else, for its values alone."""
        return self.is_on_top() and not self.observed() and transforms() is None

    def is_on_top(self) -> bool:
        """Whether a function called now, in this thread, comes here before any other mode."""
        return modes_enabled() and modes() > 0 and mode_at(modes() - 1) is self

    def observed(self) -> bool:
        """Whether more than plain values is asked of the operators, gradients aside."""
        return self._plain or observed()

    def _may_join_a_graph(self, x: Any) -> bool:
        """Whether a graph may be made around a layer that runs without one.

        The forward of an autograd.Function does: what it returns gets the graph afterwards, which
        a result that waits for its values would lose.
        """
        return self.recorder.gradients is not None or x.requires_grad

    def makes_graphs(self) -> bool:
        """Whether the operators may take part in a graph: nobody looks at its parts.

        A checkpoint looks at what is saved, the detection of anomalies at every layer's gradients.
        """
        gradients = self.recorder.gradients
        watched = torch.is_anomaly_enabled() or saved_tensor_hooks(True) is not None
        return gradients is not None and gradients.fuse and not watched

    # ---- linear layers ----

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The result of a linear layer, which waits for what follows if it may."""
        graph = grad_enabled()
        unfit = not self.makes_graphs() if graph else self._may_join_a_graph(input)
        watched = unfit or self.observed()
        with self.queue.lock:
            x: Tensor | Link = input
            if type(input) is DeferredTensor:
                waits = input.is_in_chain() and not watched and self._may_follow(input.link, graph)
                x = input.link if waits else input.resolve()
            name = self.names.of(weight)
            if name is None:
                name = self.names.of_user(weight, self.running.name())
            kernels = None if watched else _kernels_of_layer(x, weight, bias)
            if kernels is not None:
                return self.queue.linear(LinearCall.of(x, weight, bias, name, kernels))
        x = input.resolve() if type(input) is DeferredTensor else input
        return self._linear_plainly(x, weight, bias, name)

    def _may_follow(self, link: Link, graph: bool) -> bool:
        before = link.linear
        return before.small and before.has_graph == graph and not self.recorder.stops

    def follow(
        self, x: DeferredTensor, weight: Tensor, bias: Tensor | None, name: str
    ) -> DeferredTensor | None:
        """Likewise, of a small layer of what waits in a chain, by the shortest way; else None."""
        with self.queue.lock:
            waits = x.value is None and x.owner is self.queue
            linear = LinearCall.after(x.link, weight, bias, name) if waits else None
            return None if linear is None else self.queue.linear(linear)

    def _linear_plainly(self, x: Tensor, weight: Tensor, bias: Tensor | None, name: str) -> Tensor:
        self.queue.run()
        weight, bias = resolved(weight), resolved(bias)
        try:
            z = torchs_linear(x, weight, bias)
        except Exception as error:
            self.names.blame(error, name, mismatch(x, weight))
            raise
        if (kernels := kernels_of(z)) is not None:
            row = self.recorder.weight(weight) if weight.dim() == 2 else None
            source = Source("linear", name, x.shape, (self.recorder.row(x),), row)
            self.queue.keep(source, z, kernels)
        return z

    # ---- activations ----

    def _activation(
        self, call: Call, z: Tensor, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if type(z) is DeferredTensor:
            if (y := self.activated(z, call)) is not None:
                return y
            z = z.resolve()
        if not isinstance(z, Tensor):
            return func(*args, **kwargs)  # raises as it does without
        if (kernels := kernels_of(z)) is None:
            return self._activation_of_part(call, z, func, args, kwargs)
        if grad_enabled() or self.observed() or (call.in_place and refuses_writes(z)):
            function = partial(run_plainly, func, args, kwargs)
            return self._measured_activation(call, z, kernels, function)
        return self._measured_activation(call, z, kernels)

    def activation(self, z: Tensor, call: Call) -> Tensor | None:
        """The activation of a plain tensor by the operator; None where torch must run it."""
        if grad_enabled() or (call.in_place and refuses_writes(z)):
            return None
        kernels = kernels_of(z)
        return None if kernels is None else self._measured_activation(call, z, kernels)

    def _measured_activation(
        self, call: Call, z: Tensor, kernels: Any, function: Callable[[], Tensor] | None = None
    ) -> Tensor:
        """The activation of a plain tensor, run with these kernels, or made by a function."""
        source, pre_also = self.queue.take(z)
        self.queue.record()
        follows = source is not None
        if source is None:
            source = Source("act", self.running.name(), unit_dim=self.queue.unit_dim(z))
        if call.in_place:
            self.queue.settle()
        y = self.recorder.act(source, kernels, z, call, function, pre_also)
        if follows:
            self._name_activation(y)
        return y

    def _activation_of_part(
        self, call: Call, z: Tensor, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """An activation of a tensor that is not plain, measured where this process has a part."""
        part = self.recorder.part(z)
        if part is z or call.in_place or (kernels := kernels_of(part)) is None:
            y = self._functions.call(func, args, kwargs)
            self.recorder.output(Source(call.act, self.running.name()), y)
            return y

        def run() -> Tensor:
            nonlocal y
            return self.recorder.part(y := run_plainly(func, args, kwargs))

        self._measured_activation(call, part, kernels, run)
        return y

    def activated(self, z: DeferredTensor, call: Call) -> Tensor | None:
        """The activation of a linear layer that waits; None where the two may not run as one."""
        y = self.queue.activated(z, call, self._takes)
        if y is not None:
            self._name_activation(y)
        return y

    def _takes(self, graph: bool) -> bool:
        """Whether a linear layer that waits, with or without a graph, runs with its activation.

        Of what :meth:`observed` tells, only a cast concerns one without a graph.
        """
        if not graph:
            return not autocast_enabled()
        return grad_enabled() and not self.observed() and self.makes_graphs()

    def _name_activation(self, y: Tensor) -> None:
        """The module of the activation that made y, if it is one, has y as its output too."""
        if (name := self.running.activation()) is not None and not self.queue.awaits(y, name):
            self.recorder.also(name, y)


def measuring() -> bool:
    """Whether a measured forward runs now, in this thread."""
    return any(isinstance(mode, Fusion) for mode in _get_current_function_mode_stack())


def profiling() -> bool:
    """Whether a forward runs now for the sake of its profile alone."""
    stack = _get_current_function_mode_stack()
    return any(isinstance(mode, Fusion) and not mode.watches_only for mode in stack)


def _others_watch() -> bool:
    """Whether a mode is active that may make other values; a default device makes none."""
    stack = _get_current_function_mode_stack()
    return any(not isinstance(mode, (Fusion, DeviceContext)) for mode in stack)


def _kernels_of_layer(x: Tensor | Link, weight: Tensor, bias: Tensor | None) -> Any:
    """The dispatch key of the kernels that take a linear layer's operands; None without such."""
    if not isinstance(x, Link):
        return linear_kernels(x, weight, bias)
    before = x.linear
    taken = fits(weight, bias, before.weight, before.shape[-1], before.kernels)
    return before.kernels if taken else None
