"""The outputs of modules, of every structure, measured as they are made."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.utils.hooks import RemovableHandle

from initfast.interception.deferred_tensor import Pending
from initfast.interception.function_mode import measuring
from initfast.interception.function_modules import Leaves
from initfast.interception.queue import Waiting
from initfast.nets.module_facts import is_seen, unit_dim, weights
from initfast.nets.names import NetNames
from initfast.nets.pytree import leaves, tensors
from initfast.ops.dispatch import kernels_of
from initfast.recording.events import Source
from initfast.recording.recorder import Tape
from initfast.stats.layer import Skipped
from initfast.torch_state import is_traced, transforms

PADDED = (
    "A TransformerEncoder ran without nested tensors, which it makes of padded inputs in "
    "evaluation mode: padding is measured too, and its outputs there are not zero."
)


HOOK = "hook"
"""What is said to have made the output that a user's hook puts for that of a module."""


class Outputs:
    """Measures the outputs of the modules that the fusion does not see into.

    Attributes:
        skipped: the outputs that were not measured, each with its reason.
        notes: how what ran differs from what runs without a profile.
    """

    def __init__(self, names: NetNames, tape: Tape, waiting: Waiting) -> None:
        self._names = names
        self._tape = tape
        self._waiting = waiting
        self.skipped: dict[Skipped, None] = {}
        self.notes: dict[str, None] = {}
        # What the modules that compute weights have made, by their ids.
        self._made: dict[int, Tensor] = {}
        self._thread = get_ident()

    @contextmanager
    def measured(self, others: Iterable[nn.Module] = ()) -> Iterator[None]:
        """Hooks on the modules, and forwards in the leaves, for as long as this lasts.

        Args:
            others: modules whose outputs come to `measure` without.
        """
        handles, hook = [], _Hook(self.measure)
        hooked = _Hooked(hook)
        leaves = Leaves(self._names, self._tape, self._waiting, self.measure, self._is_of_another)
        made, padded = _Hook(self._keep_weight), _Hook(self._note_padding)
        changed = _Hook(self._measure_changed)
        computing = list(filter(_computes_weights, self._names.modules))
        unhooked = {id(part) for module in computing for part in module.modules()}
        unhooked.update(map(id, others))
        try:
            for module in computing:
                handles.append(module.register_forward_hook(made))
            for module in self._names.modules:
                if id(module) in unhooked:
                    continue
                if isinstance(module, torch.jit.ScriptModule):
                    kind = type(module).__name__
                    self._skip(self._names.name(module), kind, "a scripted module takes no hooks")
                elif is_seen(module):
                    if module._forward_hooks or module_hooks._global_forward_hooks:
                        handles.append(module.register_forward_hook(changed))
                elif not leaves.take(module):
                    hooked.add(module)
                    if isinstance(module, nn.TransformerEncoder):
                        handles.append(module.register_forward_hook(padded, with_kwargs=True))
            yield
        finally:
            hook.measure = made.measure = padded.measure = changed.measure = None
            self._made.clear()
            leaves.release()
            hooked.release()
            for handle in handles:
                handle.remove()

    def _is_of_another(self) -> bool:
        """Whether another measured forward of these modules runs now, in a thread of its own."""
        return get_ident() != self._thread and measuring()

    def _keep_weight(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            self._made[id(module)] = output

    def _note_padding(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        mask = kwargs.get("src_key_padding_mask", args[2] if len(args) > 2 else None)
        runs_nested = getattr(module, "use_nested_tensor", False) and not module.training
        if runs_nested and mask is not None and not torch.is_grad_enabled():
            self.notes[PADDED] = None

    def measure(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Measure what a module returned."""
        if self._is_of_another():
            return
        name, kind = self._names.name(module), type(module).__name__
        if transforms() is not None:
            self._skip(name, kind, "no plain values inside a transform such as vmap")
            return
        if is_traced():
            self._skip(name, kind, "torch.jit.trace runs it")
            return
        with torch._C.DisableTorchFunction():
            if type(output) is Tensor and output.dtype.is_floating_point:
                found = [("", output)]
            else:
                found = self._floats(name, kind, output)
            source = None
            for i, (path, t) in enumerate(found):
                is_first = i == 0
                if self._waiting.awaits(t, name if is_first else None):
                    continue
                y = _value(t)
                if y is None or (not is_first and self._tape.is_reported(y)):
                    continue
                if y.is_nested:
                    self._skip(name, kind + path, _why_not(y))
                    continue
                if source is None:
                    self._waiting.record()
                    source = self._source(module, name, kind, args, kwargs, y)
                self._output(source._replace(kind=kind + path) if path else source, module, y)

    def _measure_changed(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """What a user's hook has made of an output that is measured without one of ours."""
        if self._is_of_another() or transforms() is not None:
            return
        with torch._C.DisableTorchFunction():
            name = self._names.name(module)
            for path, t in self._floats(name, HOOK, output):
                y = _value(t)
                if y is None or self._waiting.awaits(t) or self._tape.find_layer(y) is not None:
                    continue
                self._waiting.settle()
                address, shape = self._tape.replaced(name)
                self._output(Source(HOOK + path, name, shape, (address,)), module, y)

    def _output(self, source: Source, module: nn.Module, y: Tensor) -> None:
        if (key := kernels_of(y)) is None:
            self._skip(source.name, source.kind, _why_not(y))
        elif (dim := unit_dim(module)) is None or self._tape.find_layer(y) is not None:
            self._tape.output(source, y, key)
        else:
            self._waiting.made(source._replace(unit_dim=dim), y)

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
        if not kwargs and len(args) == 1 and isinstance(args[0], Tensor):
            inputs = [args[0]]
        else:
            inputs = [t for _, t in tensors((args, kwargs))]
        rows = tuple([None if t is y else self._row(t) for t in inputs])
        shape = inputs[0].shape if inputs and not inputs[0].is_nested else None
        source = Source(kind, name, shape, rows)
        found = weights(module, shape, y.shape, self._made)
        return self._tape.with_weights(source, found) if found else source

    def _row(self, t: Tensor) -> int | None:
        return None if (value := _value(t)) is None else self._tape.row(value)


class _Hook:
    """Calls what measures; on a copy of its module, and after the profile, it does nothing."""

    def __init__(self, measure: Callable[..., None] | None) -> None:
        self.measure = measure

    def __call__(self, *arguments: Any) -> None:
        if self.measure is not None:
            self.measure(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return _Hook(None)

    def __reduce__(self) -> Any:
        return _Hook, (None,)


class _Hooked:
    """The modules that have one hook: a handle for each costs as much as a small module's run."""

    def __init__(self, hook: _Hook) -> None:
        self._hook = hook
        self._id = RemovableHandle(OrderedDict()).id
        self._modules: list[nn.Module] = []

    def add(self, module: nn.Module) -> None:
        """As register_forward_hook(hook, with_kwargs=True)."""
        self._modules.append(module)
        module._forward_hooks[self._id] = self._hook
        module._forward_hooks_with_kwargs[self._id] = True

    def release(self) -> None:
        """Take it from all of them."""
        for module in self._modules:
            module._forward_hooks.pop(self._id, None)
            module._forward_hooks_with_kwargs.pop(self._id, None)


def _computes_weights(module: nn.Module) -> bool:
    """Whether a module makes a weight out of parameters (torch.nn.utils.parametrize)."""
    kind = type(module)
    return kind.__name__ == "ParametrizationList" and kind.__module__.startswith("torch.nn")


def _value(t: Tensor) -> Tensor | None:
    """What can be measured of t now: a Pending without a value has none yet."""
    return t.value if isinstance(t, Pending) else t


def _why_not(t: Tensor) -> str:
    """Why a floating-point tensor is not measured."""
    if t.is_meta:
        return "on the meta device"
    if t.layout is not torch.strided:
        return str(t.layout)
    if t.is_nested:
        return "a nested tensor"
    return type(t).__name__ if type(t) is not Tensor else str(t.dtype)
