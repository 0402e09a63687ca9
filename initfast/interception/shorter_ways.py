"""Shorter ways through torch's own modules, while nobody watches them.

Looking at every output and at each function costs more than a small layer does. So while a profile
runs, a linear layer is asked for at once, an activation of it likewise, a module of one
function runs that function and is measured, and a Sequential runs its pairs of linear layers and
activations without calling them. Each returns :data:`MISSED` where anybody could tell.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from initfast.interception.deferred_tensor import DeferredTensor
from initfast.interception.function_mode import Fusion
from initfast.interception.module_calls import MISSED, ModuleCall, Short
from initfast.interception.module_outputs import ModuleOutputs
from initfast.interception.sequential import run_children
from initfast.nets.activation_calls import (
    MODULES,
    TORCHS_FORWARDS,
    activation_call,
    runs_torchs,
)
from initfast.nets.module_facts import OF_ONE_FUNCTION, unit_dim, weights
from initfast.ops.dispatch import kernels_of
from initfast.recording.events import new_source
from initfast.recording.recorder import Recorder
from initfast.torch_state import autocast_enabled, grad_enabled, modes, transforms

_SEQUENTIAL = nn.Sequential.forward


class ShorterWays:
    """The shorter ways of one profile.

    Args:
        fusion: runs linear layers and their activations.
        outputs: measures what modules return.
        recorder: keeps what is measured.
    """

    def __init__(self, fusion: Fusion, outputs: ModuleOutputs, recorder: Recorder) -> None:
        self._fusion = fusion
        self._outputs = outputs
        self._recorder = recorder
        self._queue = fusion.queue

    def of(self, module: nn.Module) -> Short | None:
        """The shorter way through a module, if there is one."""
        kind = type(module)
        if kind is nn.Linear and kind.forward is TORCHS_FORWARDS[kind]:
            return self.linear
        if kind is nn.Sequential and kind.forward is _SEQUENTIAL:
            return self.sequential
        if kind in MODULES and kind.forward is TORCHS_FORWARDS[kind]:
            return self.activation
        if kind in OF_ONE_FUNCTION and kind.forward is OF_ONE_FUNCTION[kind]:
            own = module._parameters.values()
            if not self._recorder.stops and all(p is None or type(p) is Parameter for p in own):
                return self.one_function
        return None

    def linear(self, own: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Of a linear layer: as ``F.linear`` would be seen by the function mode."""
        fusion, parameters = self._fusion, own.module._parameters
        if len(args) != 1 or kwargs or not runs_torchs(own.module):
            return MISSED
        if not fusion.is_called_first():
            return MISSED
        x, weight = args[0], parameters.get("weight")
        bias: Any = parameters.get("bias", MISSED)
        if type(x) not in _ORDINARY or type(weight) is not Parameter or not _is_plain(bias):
            return MISSED
        with torch._C.DisableTorchFunction():
            if type(x) is DeferredTensor and not (grad_enabled() or self._recorder.gradients):
                if (z := fusion.follow(x, weight, bias, own.name)) is not None:
                    return z
            return fusion.linear(x, weight, bias)

    def activation(self, own: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Of an activation: as its function would be seen by the function mode."""
        fusion = self._fusion
        z: Any = args[0] if len(args) == 1 and not kwargs else None
        if type(z) not in _ORDINARY or not fusion.is_called_first():
            return MISSED
        call = activation_call(own.module)
        if call is None or not runs_torchs(own.module):
            return MISSED
        with torch._C.DisableTorchFunction():
            if type(z) is DeferredTensor:
                y = fusion.activated(z, call) if z.value is None else None
            else:
                y = fusion.activation(z, call)
        return MISSED if y is None else y

    def sequential(self, own: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Of a Sequential: its children one after the other, pairs of them as one operator."""
        if len(args) != 1 or kwargs:
            return MISSED
        y = run_children(own.module._modules, self._fusion, args[0])
        self._outputs.measure(own, args, kwargs, y)
        return y

    def one_function(self, own: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Of a convolution, a norm, an embedding or a pooling: the forward itself, measured."""
        is_simple = len(args) == 1 and not kwargs and type(args[0]) in _ORDINARY
        if not is_simple or modes() != 1 or transforms() is not None or autocast_enabled():
            return MISSED
        x = args[0]
        with torch._C.DisableTorchFunction():
            self._queue.record_undisturbed()
            self._queue.settle()
            if type(x) is DeferredTensor:
                x = x.resolve()
            y = own.forward(x)
            if type(y) is Tensor and (kernels := kernels_of(y)) is not None:
                self._record(own, x, y, kernels)
            else:
                self._outputs.measure(own, args, kwargs, y)
        return y

    def _record(self, own: ModuleCall, x: Tensor, y: Tensor, kernels: Any) -> None:
        recorder, shape, dim = self._recorder, x.shape, unit_dim(own.module, y.shape)
        like = self._queue.unit_dim(y) if dim is None else dim
        source = new_source(own.kind, own.name, shape, (recorder.row(x),), like)
        if found := weights(own.module, shape, y.shape, {}):
            source = recorder.with_weights(source, found)
        if dim is None:
            recorder.output(source, y, kernels)
        else:
            self._queue.keep(source, y, kernels)  # all else was recorded before y was made


def _is_plain(bias: Any) -> bool:
    return bias is None or type(bias) is Parameter


_ORDINARY = (Tensor, DeferredTensor)
