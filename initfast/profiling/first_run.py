"""What the first run of a net has written, put back where the net must run again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from initfast.nets.pytree import tensors
from initfast.profiling.buffers import attributes, is_torchs, put_attributes_back


class FirstRun:
    """Parameters, buffers, attributes and generators of modules, as they were before a run.

    A tensor is copied when a function is about to write to it: few nets write to any.

    Args:
        modules: those of the net.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        self._modules = modules
        self._attributes = [(m, attributes(m)) for m in modules if not is_torchs(m)]
        self._generators = [
            (found, found.get_state())
            for _, own in self._attributes
            for found in own.values()
            if type(found) is torch.Generator
        ]
        self._own: set[int] | None = None  # ids of the modules' tensors
        # By id: a tensor, its memory, and what was in it.
        self._written: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def before_write(self, target: Any) -> None:
        """A function is about to write to a tensor, or to all in a structure."""
        if self._own is None:
            found = (t for m in self._modules for t in (m._parameters, m._buffers))
            self._own = {id(t) for own in found for t in own.values()}
        for _, t in tensors(target):
            t = t if t._base is None else t._base
            if id(t) in self._own and id(t) not in self._written:
                self._written[id(t)] = t, t.data, t.detach().clone()

    def put_back(self) -> None:
        """Let everything be as it was; what a list was given stays in it."""
        for t, memory, before in self._written.values():
            memory.copy_(before)  # .data counts its versions apart
            t.data = memory
        for module, found in self._attributes:
            put_attributes_back(module, found)
        for generator, state in self._generators:
            generator.set_state(state)
