"""What has been asked for and has not run yet: linear layers, and chains of them with activations.

A :class:`Link` says what to compute; a :class:`Pending` is the tensor that stands for its result.
"""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from types import NoneType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.parameter import Parameter

from initfast.interception.function_table import METADATA
from initfast.nets.activation_calls import Call
from initfast.torch_state import undisturbed

_make_wrapper = Tensor._make_wrapper_subclass
_holders = Tensor._use_count  # type: ignore[attr-defined]
_refuse_memory = torch._C._set_throw_on_mutable_data_ptr


class Owner(Protocol):
    """What runs a Pending when its values are needed."""

    settled: list[weakref.ref[Pending]]
    lock: AbstractContextManager[Any]

    def evaluate(self, pending: Pending) -> Tensor:
        """Its values."""


class Kind(NamedTuple):
    """What a linear layer's operands have in common."""

    dtype: torch.dtype
    device: torch.device
    key: Any  # the kernels' dispatch key


class Layer:
    """A call of a linear layer.

    Attributes:
        x: its input, or the link that makes it.
        weight, bias, name: as in :data:`initfast.recording.recorder.Linear`.
        kind: of its operands.
        shape: of the result.
        rows: how many inputs it is applied to.
        small: whether its activation may wait, too, for the layers that follow.
        graph: whether gradients flow through it.
    """

    __slots__ = ("bias", "graph", "kind", "name", "rows", "shape", "small", "weight", "x")

    def __init__(
        self,
        x: Tensor | Link,
        weight: Tensor,
        bias: Tensor | None,
        name: str,
        kind: Kind,
        shape: tuple[int, ...],
        rows: int,
        small: bool,
        graph: bool = False,
    ) -> None:
        self.x = x
        self.weight = weight
        self.bias = bias
        self.name = name
        self.kind = kind
        self.shape = shape
        self.rows = rows
        self.small = small
        self.graph = graph


class Link:
    """A linear layer, or one and its activation, that has not run yet.

    Attributes:
        layer: the linear layer's call.
        call: the activation; None where the layer is alone.
        value: the result, where it has run and somebody could still ask for it.
        tensor: the Pending that stands for the result, weakly.
        readers: how many layers take the result as their input.
        reader: the pre-activation of the last of them, weakly.
        also: the modules whose output the result is too.
    """

    __slots__ = ("also", "call", "layer", "reader", "readers", "tensor", "value")

    def __init__(self, layer: Layer, call: Call | None) -> None:
        self.layer = layer
        self.call = call
        self.value: Tensor | None = None
        self.readers = 0
        self.reader: weakref.ref[Pending] | None = None
        self.also: tuple[str, ...] = ()

    def stand_in(self, owner: Owner) -> Pending:
        """The tensor that stands for the result."""
        layer = self.layer
        kind = layer.kind
        pending = _make_wrapper(
            Pending,
            layer.shape,
            dtype=kind.dtype,
            device=kind.device,
            requires_grad=layer.graph,
        )
        _refuse_memory(pending)  # to what is called past the dispatcher: there is none
        pending.graph = layer.graph
        pending.owner = owner
        pending.link = self
        self.tensor = weakref.ref(pending)
        return pending

    def feeds_only(self, after: Link) -> bool:
        """Whether nobody but the link after it can ever ask for the result."""
        return (
            after.layer.x is self
            and self.readers == 1
            and self.tensor() is None
            and (self.reader is None or self.reader() is None)
        )


class Unseen(BaseException):
    """Ends a forward that looks for a graph where there is none.

    It takes a Pending past torch's functions, as an extension does, or asks for the gradient at a
    pre-activation itself, past which its activation leads in the graph. No Exception, so that nets
    do not catch it.
    """


class Pending(Tensor):
    """The result of a link; an ordinary tensor to whoever looks.

    value: the result, once something needed it. link: what to compute it from, until then.
    graph: whether the value has a graph, which whoever takes this for a tensor would not see.
    """

    graph = False
    value: Tensor | None = None
    link: Link
    owner: Owner

    def is_deferred(self) -> bool:
        """Whether an activation and the layer before it have not run yet."""
        return self.value is None and self.link.call is not None

    def resolve(self) -> Tensor:
        """The values, computed at the first call.

        Raises:
            Unseen: somebody holds more of this tensor than its Python object.
        """
        if self.graph and _holders(self) > 1:
            raise Unseen
        if self.value is None:
            owner = self.__dict__.get("owner")  # none where another thread has settled it just now
            if owner is not None:
                with owner.lock, undisturbed():
                    if self.value is None:
                        self.settle(owner.evaluate(self))
        value = self.value
        assert value is not None
        return value

    def settle(self, value: Tensor) -> None:
        """Be this value from now on, unless there is one."""
        if self.value is not None:
            return
        self.value = value
        self.owner.settled.append(weakref.ref(self))
        del self.link, self.owner

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in METADATA and all(type(a) is not Pending or a.value is None for a in args):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return func(*resolved(args), **resolved(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*resolved(args), **resolved(kwargs or {}))


def resolved(value: Any) -> Any:
    """The same arguments, with the values of every Pending among them."""
    kind = type(value)
    if kind is Pending:
        return value.resolve()
    if kind in _RESOLVED:
        return value
    if isinstance(value, (tuple, list)):
        return (tuple if isinstance(value, tuple) else list)(map(resolved, value))
    if isinstance(value, dict):
        return {k: resolved(v) for k, v in value.items()}
    return value


_RESOLVED = frozenset((Tensor, Parameter, NoneType, bool, int, float, str, torch.Size))
"""The usual arguments, which hold no Pending."""
