"""The outputs of modules, of every structure, measured as they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from initfast.fusion import Fusion, Pending
from initfast.names import NetNames
from initfast.spelling import MODULES
from initfast.tape import Tape

UNHOOKED = {nn.Linear, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity, *MODULES}
"""Modules whose outputs are measured without a hook: what they compute is seen as it runs."""


@contextmanager
def measured(names: NetNames, tape: Tape, fusion: Fusion) -> Iterator[None]:
    """Measure the outputs of the modules that the fusion does not see into.

    Scripted modules take no hooks and run unmeasured.
    """

    def measure(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return  # inside a transform such as vmap there are no plain values to measure
        with torch._C.DisableTorchFunction():
            found = [(path, t) for path, t in _tensors(output) if t.dtype.is_floating_point]
            x = next((t for _, t in _tensors(args)), None)
            for path, t in found:
                if (y := _value(t)) is None or fusion.awaits(t):
                    continue
                head = type(module).__name__ + (path if len(found) > 1 else "")
                tape.output(names.name(module), head, None if x is t else _value(x), y)

    handles = []
    try:
        for module in names.modules:
            if type(module) not in UNHOOKED and not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_hook(measure))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _value(t: Tensor | None) -> Tensor | None:
    """What can be measured of t now: a Pending without a value has none yet."""
    return t.value if isinstance(t, Pending) else t


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested tuples, lists, mappings and dataclasses, with its path."""
    if isinstance(value, Tensor):
        yield path, value
        return
    items: Any = ()
    if isinstance(value, Mapping):
        items = ((f"[{key!r}]", item) for key, item in value.items())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        items = ((f".{field.name}", getattr(value, field.name)) for field in fields)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = ((f".{name}", item) for name, item in zip(value._fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        items = ((f"[{i}]", item) for i, item in enumerate(value))
    for step, item in items:
        yield from _tensors(item, path + step)
