"""The outputs of modules, of every structure, measured as they are made."""

from __future__ import annotations

from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.nn.utils.parametrize import ParametrizationList

from initfast.interception.deferred_tensor import DeferredTensor
from initfast.interception.function_mode import measuring
from initfast.interception.module_calls import After, ModuleCall, measure_nothing
from initfast.interception.queue import Queue
from initfast.nets.module_facts import is_seen, unit_dim, weights
from initfast.nets.names import NetNames
from initfast.nets.pytree import leaves, tensors
from initfast.nets.shards import NOTE as SHARDED
from initfast.nets.shards import is_sharded, partial_placements
from initfast.ops.dispatch import kernels_of
from initfast.recording.events import Source, new_source
from initfast.recording.recorder import Recorder
from initfast.stats.layer import Skipped
from initfast.torch_state import is_traced, transforms

PADDED = (
    "A TransformerEncoder ran without nested tensors, which it makes of padded inputs in "
    "evaluation mode: padding is measured too, and its outputs there are not zero."
)
FAST_PATH = (
    "Layers ran without torch's fast path, which nn.TransformerEncoderLayer and "
    "nn.MultiheadAttention take in evaluation mode without gradients: it rounds otherwise, and "
    "leaves out dropout that is in training mode."
)

HOOK = "hook"
"""What is said to have made the output that a user's hook puts for that of a module."""


class ModuleOutputs:
    """Measures the outputs of the modules that the fusion does not see into.

    Attributes:
        skipped: the outputs that were not measured, each with its reason.
        notes: how what ran differs from what runs without a profile.
    """

    def __init__(self, names: NetNames, recorder: Recorder, queue: Queue) -> None:
        self._names = names
        self._recorder = recorder
        self._queue = queue
        self.skipped: dict[Skipped, None] = {}
        self.notes: dict[str, None] = {}
        # What the modules that compute weights have made, by their ids.
        self._made: dict[int, Tensor] = {}
        self._thread = get_ident()

    def after(self, module: nn.Module, computes: bool) -> After | None:
        """What to do after each call of a module; None: leave its call alone.

        Args:
            module: of the net.
            computes: whether it is a part of what computes a weight.
        """
        if not computes and is_seen(module):
            return self._measure_unseen
        if isinstance(module, torch.jit.ScriptModule):
            kind = type(module).__name__
            self._skip(self._names.name(module), kind, "a scripted module takes no hooks")
            return None
        if computes:
            return self._keep_weight if computes_weights(module) else measure_nothing
        return self._note_fast_path if isinstance(module, _WITH_FAST_PATH) else self.measure

    def _keep_weight(
        self, call: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if isinstance(output, Tensor):
            self._made[id(call.module)] = output

    def _note_fast_path(
        self, call: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        module = call.module
        mask = kwargs.get("src_key_padding_mask", args[2] if len(args) > 2 else None)
        if not (module.training or torch.is_grad_enabled()):
            if getattr(module, "use_nested_tensor", False) and mask is not None:
                self.notes[PADDED] = None
            if _may_be_fast(module):
                self.notes[FAST_PATH] = None
        self.measure(call, args, kwargs, output)

    def measure(
        self, call: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Measure what a module returned."""
        if get_ident() != self._thread and measuring():
            return  # another forward of these modules, in a thread of its own
        if transforms() is not None:
            self._skip(call.name, call.kind, "no plain values inside a transform such as vmap")
            return
        if is_traced():
            self._skip(call.name, call.kind, "torch.jit.trace runs it")
            return
        with torch._C.DisableTorchFunction():
            if type(output) is Tensor and output.dtype.is_floating_point:
                self._measure_tensor(call, args, kwargs, "", output)
                return
            floats = self._floats(call.name, call.kind, output)
            for i, (path, t) in enumerate(floats):
                if i == 0 or not self._is_reported(t):
                    self._measure_tensor(call, args, kwargs, path, t, i == 0)

    def _is_reported(self, t: Tensor) -> bool:
        """Whether an output, or an input of the net, is in the report already, or will be."""
        return self._queue.awaits(t) or self._recorder.is_reported(self._value(t))

    def _measure_tensor(
        self,
        call: ModuleCall,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        path: str,
        t: Tensor,
        is_first: bool = True,
    ) -> None:
        """Measure one tensor of what a module returned.

        Args:
            call, args, kwargs: of the module.
            path: of the tensor in what was returned.
            t: the tensor.
            is_first: whether none comes before it; it then carries the module's name.
        """
        name, kind, recorder = call.name, call.kind + path, self._recorder
        if self._queue.awaits(t, name if is_first else None):
            return
        y = t if type(t) is Tensor else self._value(t)
        if (kernels := kernels_of(y)) is None:
            self._skip(name, kind, _why_not(y))
            return
        if y is not t and type(t) is not DeferredTensor:
            self.notes[SHARDED] = None
        self._queue.record_undisturbed()
        if recorder.is_output(y):
            recorder.also(name, y)
            return
        source = self._source(call.module, name, kind, args, kwargs, y)
        if isinstance(call.module, nn.Linear) and is_sharded(call.module):
            source = source._replace(kind="linear", unit_dim=-1)
            self._queue.keep(
                source, y, kernels
            )  # what is named as the layer that a process alone runs
        else:
            self._output(source, call.module, y, kernels)

    def _measure_unseen(
        self, call: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Measure what a layer that the fusion sees into has returned past it.

        A user's hook has put that in the place of its output; or nobody saw it run: in another
        thread, or on a tensor of a subclass.
        """
        module, name = call.module, call.name
        is_hooked = module._forward_hooks or module_hooks._global_forward_hooks
        if not is_hooked or is_sharded(module):
            if not self._is_seen(output):  # of DTensors, what comes out is put right by a hook
                self.measure(call, args, kwargs, output)
            return
        if (get_ident() != self._thread and measuring()) or transforms() is not None:
            return
        with torch._C.DisableTorchFunction():
            for path, t in self._floats(name, HOOK, output):
                if (
                    self._queue.awaits(t)
                    or self._recorder.find_layer(y := self._value(t)) is not None
                ):
                    continue
                self._queue.settle()
                address, shape = self._recorder.replaced(name)
                if (kernels := kernels_of(y)) is None:
                    self._skip(name, HOOK + path, _why_not(y))
                else:
                    source = Source(HOOK + path, name, shape, (address,))
                    self._output(source, module, y, kernels)

    def _is_seen(self, output: Any) -> bool:
        """Whether an output waits, or is measured."""
        if type(output) is not Tensor:
            return type(output) is DeferredTensor
        return self._queue.awaits(output) or self._recorder.has_measured(output)

    def _output(self, source: Source, module: nn.Module, y: Tensor, kernels: Any) -> None:
        if (dim := unit_dim(module, y.shape)) is None or self._recorder.find_layer(y) is not None:
            if (dim := self._queue.unit_dim(y)) != source.unit_dim:
                source = source._replace(unit_dim=dim)
            self._recorder.output(source, y, kernels)
        else:
            self._queue.keep(source._replace(unit_dim=dim), y, kernels)

    def _floats(self, name: str, kind: str, output: Any) -> list[tuple[str, Tensor]]:
        """The floating-point tensors of a structure; the others are skipped."""
        found, floats = list(tensors(output)), []
        for path, other in leaves(output):
            if not isinstance(other, Tensor):
                self._skip(name, kind + path, f"no tensors found in a {type(other).__name__}")
        for path, t in found:
            if t.dtype.is_floating_point:
                floats.append((path, t))
            else:
                self._skip(name, kind + (path if len(found) > 1 else ""), str(t.dtype))
        return floats if len(floats) > 1 else [("", t) for _, t in floats]

    def _skip(self, name: str, op: str, reason: str) -> None:
        self.skipped[Skipped(name, op, reason)] = None

    def _source(
        self,
        module: nn.Module,
        name: str,
        kind: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        y: Tensor,
    ) -> Source:
        """What the module was given, and its weight."""
        shape: torch.Size | None
        if not kwargs and len(args) == 1 and isinstance(x := args[0], Tensor):
            shape = None if x.is_nested else x.shape
            rows: tuple[int | None, ...] = (None if x is y else self._row(x),)
        else:
            inputs = [t for _, t in tensors((args, kwargs))]
            shape = inputs[0].shape if inputs and not inputs[0].is_nested else None
            rows = tuple([None if t is y else self._row(t) for t in inputs])
        source = new_source(kind, name, shape, rows)
        found = weights(module, shape, y.shape, self._made)
        return self._recorder.with_weights(source, found) if found else source

    def _row(self, t: Tensor) -> int | None:
        """The address of an input's row; None where it has no values yet."""
        value = t.value if type(t) is DeferredTensor else t
        return None if value is None else self._recorder.row(value)

    def _value(self, t: Tensor) -> Tensor:
        """The values of t that this process holds.

        Those of a pre-activation whose activation has run are computed again.
        """
        if type(t) is DeferredTensor:
            return t.resolve()
        return t if type(t) is Tensor else self._recorder.part(t)


def computes_weights(module: nn.Module) -> bool:
    """Whether a module makes a weight out of parameters."""
    return isinstance(module, ParametrizationList)


_WITH_FAST_PATH = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)


def _may_be_fast(module: nn.Module) -> bool:
    """Whether torch has a fast path for a module that is built so."""
    if isinstance(module, nn.TransformerEncoderLayer):
        attention: Any = getattr(module, "self_attn", None)
        return bool(getattr(module, "activation_relu_or_gelu", 0)) and _may_be_fast(attention)
    is_attention = isinstance(module, nn.MultiheadAttention)
    return is_attention and bool(module.batch_first and module._qkv_same_embed_dim)


def _why_not(t: Tensor) -> str:
    """Why a floating-point tensor is not measured."""
    if t.is_meta:
        return "on the meta device"
    if t.layout is not torch.strided:
        return str(t.layout)
    if t.is_nested:
        return "a nested tensor"
    if summands := partial_placements(t):
        return f"a DTensor that is {summands}: its values are not reduced yet"
    return type(t).__name__ if type(t) is not Tensor else str(t.dtype)
