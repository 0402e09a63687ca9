"""Torch's modules that run one function each, measured by a forward in place of their own.

A hook, and a function mode that looks at that one function, cost more than a small layer does. So
while a profile runs, a convolution, a norm, an embedding or a pooling gets a forward that calls its
own and measures what comes out. Where anybody could tell the difference (a subclass, a hook, a
forward of its own, another function mode), it is hooked as all others are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.nn.parameter import Parameter

from initfast.interception.deferred_tensor import Pending, resolved
from initfast.interception.module_calls import (
    Forward,
    Measure,
    install,
    is_bare,
    release,
    takes_another,
)
from initfast.interception.queue import Waiting
from initfast.nets.module_facts import LEAVES, unit_dim, weights
from initfast.nets.names import NetNames
from initfast.ops.dispatch import kernels_of
from initfast.recording.events import Source
from initfast.recording.recorder import Tape
from initfast.torch_state import modes, transforms


class Leaves:
    """Gives modules the forward that measures, and takes it away again.

    Args:
        names: of the net's modules.
        tape: records.
        waiting: keeps what an activation may follow.
        measure: what a hook would call with a module, its arguments and its output.
        is_of_another: whether another measured forward of these modules runs now.
    """

    def __init__(
        self,
        names: NetNames,
        tape: Tape,
        waiting: Waiting,
        measure: Measure,
        is_of_another: Callable[[], bool],
    ) -> None:
        self.names = names
        self.tape = tape
        self.waiting = waiting
        self.measure = measure
        self.is_of_another = is_of_another
        self._possible = not (tape.stops or module_hooks._has_any_global_hook())
        self._forwards: list[LeafForward] = []

    def take(self, module: nn.Module) -> bool:
        """Whether this module now has the forward that measures."""
        kind = type(module)
        own = LEAVES.get(kind)
        if own is None or not self._possible:
            return False
        if not (takes_another(module, kind, own) and is_bare(module)):
            return False
        if not all(p is None or type(p) is Parameter for p in module._parameters.values()):
            return False
        forward = LeafForward(module, self)
        self._forwards.append(forward)
        install(forward)
        return True

    def release(self) -> None:
        """Give every module its own forward back."""
        release(self._forwards)
        self._forwards = []


class LeafForward(Forward[Leaves]):
    """The forward that measures."""

    def __init__(self, module: nn.Module, leaves: Leaves) -> None:
        super().__init__(module, leaves, leaves.measure)
        self.kind = type(module).__name__
        self.name = leaves.names.name(module)
        self.unit_dim = unit_dim(module)

    def forward(self, leaves: Leaves, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module's own forward returns."""
        is_simple = len(args) == 1 and not kwargs and type(args[0]) in (Tensor, Pending)
        watched = modes() != 1 or transforms() is not None
        if not is_simple or watched or leaves.is_of_another():
            return self.otherwise(leaves, args, kwargs)
        with torch._C.DisableTorchFunction():
            leaves.waiting.settle()
            x = resolved(args[0])
            y = self.plainly(x)
            if type(y) is Tensor and (key := kernels_of(y)) is not None:
                self._record(leaves, x, y, key)
            else:
                self.measure(self.module, args, kwargs, y)
        return y

    def _record(self, leaves: Leaves, x: Tensor, y: Tensor, key: Any) -> None:
        tape, shape = leaves.tape, x.shape
        row = tape.row(x) if x.is_floating_point() else None
        source = Source(self.kind, self.name, shape, (row,), unit_dim=self.unit_dim or -1)
        if found := weights(self.module, shape, y.shape, {}):
            source = tape.with_weights(source, found)
        if self.unit_dim is None:
            tape.output(source, y, key)
        else:
            leaves.waiting.keep(source, y)  # all else was recorded before y was made
