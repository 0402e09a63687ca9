"""The values of a net, kept as they are while it runs once more: copied before anything writes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from initfast.nets.pytree import tensors
from initfast.profiling.tensor_copies import write


class KeptValues:
    """Tensors, and the lists, dicts and sets of modules, to be put back as they are now.

    Args:
        modules: those of the net: their parameters with their gradients, their buffers, and the
            tensors that they hold.
        given: further tensors, in any structure.
    """

    def __init__(self, modules: Sequence[nn.Module], given: Any) -> None:
        held = [value for m in modules for name, value in vars(m).items() if name not in _TORCHS]
        own = [(m._parameters, m._buffers) for m in modules]
        self._containers = [(x, x.copy()) for x in held if type(x) in (list, dict, set)]
        parameters = [p for m in modules for p in m._parameters.values() if p is not None]
        self._grads = [(p, p.grad) for p in parameters]
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._kept: dict[int, Tensor] = {}  # those without a copy, by where the memory begins
        for _, t in tensors((own, self._grads, held, given)):
            with suppress(Exception):  # a tensor without memory
                self._kept.setdefault(t.untyped_storage().data_ptr(), t)

    def before_write(self, t: Tensor) -> None:
        """A function is about to write to t, or to what shares its memory."""
        own = self._kept.pop(t.untyped_storage().data_ptr(), None)
        if own is not None:
            self._copies.append((own, own.detach().clone()))

    def put_back(self) -> None:
        """Let all be as it was."""
        write(self._copies)
        for p, grad in self._grads:
            p.grad = grad
        for value, copy in self._containers:
            value.clear()
            value.extend(copy) if isinstance(value, list) else value.update(copy)


_TORCHS = frozenset(vars(nn.Module()))
