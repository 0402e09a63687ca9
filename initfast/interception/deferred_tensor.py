"""What has been asked for and has not run yet: linear layers, and chains of them with activations.

A :class:`Link` says what to compute; a :class:`DeferredTensor` is the tensor that stands for its
result.
"""

from __future__ import annotations

import math
import weakref
from contextlib import AbstractContextManager
from operator import is_
from types import NoneType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.parameter import Parameter

from initfast.interception.function_effects import METADATA
from initfast.interception.undisturbed import run_undisturbed
from initfast.nets.activation_calls import NO_ACTIVATION, Call
from initfast.ops.dispatch import fits
from initfast.recording.linear_act_chain import ChainLayer
from initfast.recording.streams import on_stream, stream_of, wait_for
from initfast.torch_state import grad_enabled

_make_wrapper = Tensor._make_wrapper_subclass
_holders = Tensor._use_count  # type: ignore[attr-defined]
_refuse_memory = torch._C._set_throw_on_mutable_data_ptr

MULTIPLY_ADDS = 1 << 23
"""Below so many, Python costs as much as the arithmetic, some hundred microseconds: chains pay."""


class Owner(Protocol):
    """What runs a DeferredTensor when its values are needed."""

    settled: list[weakref.ref[DeferredTensor]]
    lock: AbstractContextManager[Any]

    def evaluate(self, z: DeferredTensor) -> Tensor:
        """Its values."""


class LinearCall(NamedTuple):
    """A call of a linear layer.

    Attributes:
        x: its input, or the link that makes it.
        weight, bias, name: as in :class:`initfast.recording.linear_act_chain.ChainLayer`.
        kernels: the dispatch key of those that take its operands, which are alike.
        shape: of the result.
        batch: how many inputs it is applied to.
        small: whether its activation may wait, too, for the layers that follow; a chain with a
            graph may be as long as it likes, but a card is not kept waiting.
        has_graph: whether gradients flow through it.
        stream: the CUDA stream that it was asked for on; None elsewhere.
    """

    x: Tensor | Link
    weight: Tensor
    bias: Tensor | None
    name: str
    kernels: Any
    shape: tuple[int, ...]
    batch: int
    small: bool
    has_graph: bool
    stream: int | None

    @classmethod
    def of(
        cls, x: Tensor | Link, weight: Tensor, bias: Tensor | None, name: str, kernels: Any
    ) -> LinearCall:
        """The call with these operands, made now."""
        if isinstance(x, Link):
            leading, batch, needs_grad = x.linear.shape[:-1], x.linear.batch, x.linear.has_graph
        else:
            leading, needs_grad = tuple(x.shape[:-1]), x.requires_grad
            batch = math.prod(leading)
        needs_grad |= weight.requires_grad or (bias is not None and bias.requires_grad)
        n_out, n_in = weight.shape
        graph = grad_enabled() and needs_grad
        small = weight.is_cpu and (graph or batch * n_out * n_in < MULTIPLY_ADDS)
        stream, shape = stream_of(weight.device), (*leading, n_out)
        return cls(x, weight, bias, name, kernels, shape, batch, small, graph, stream)

    def on_its_stream(self) -> AbstractContextManager[None]:
        """What follows runs on the stream that the call was made on."""
        return on_stream(self.weight.device, self.stream)

    @classmethod
    def after(cls, link: Link, weight: Tensor, bias: Tensor | None, name: str) -> LinearCall | None:
        """The call of a small layer that takes a link in a chain; None if it is not that."""
        _, first, _, _, kernels, shape, batch, _, has_graph, _ = link.linear
        if link.call is None or has_graph or not fits(weight, bias, first, shape[-1], kernels):
            return None
        n_out, n_in = weight.shape
        if batch * n_out * n_in >= MULTIPLY_ADDS:
            return None
        stream, shape = stream_of(weight.device), (*shape[:-1], n_out)
        return cls(link, weight, bias, name, kernels, shape, batch, True, False, stream)


class Link:
    """A linear layer, or one and its activation, that has not run yet.

    Attributes:
        linear: the linear layer's call.
        call: the activation; None where the layer is alone.
        value: the result, where it has run and somebody could still ask for it.
        tensor: the DeferredTensor that stands for the result, weakly.
        readers: how many layers take the result as their input.
        reader: the pre-activation of the last of them, weakly.
        pre: the pre-activation, weakly; set where there is an activation.
        also: the modules whose output the result is too.
        pre_also: the modules whose output the pre-activation is.
    """

    __slots__ = (
        "also",
        "call",
        "linear",
        "pre",
        "pre_also",
        "reader",
        "readers",
        "tensor",
        "value",
    )
    tensor: weakref.ref[DeferredTensor]
    pre: weakref.ref[DeferredTensor]

    def __init__(self, linear: LinearCall, call: Call | None) -> None:
        self.linear = linear
        self.call = call
        self.value: Tensor | None = None
        self.readers = 0
        self.reader: weakref.ref[DeferredTensor] | None = None
        self.also: tuple[str, ...] = ()
        self.pre_also: tuple[str, ...] = ()

    def stand_in(self, owner: Owner) -> DeferredTensor:
        """The tensor that stands for the result."""
        linear = self.linear
        like, graph = linear.weight, linear.has_graph
        z = _make_wrapper(
            DeferredTensor, linear.shape, dtype=like.dtype, device=like.device, requires_grad=graph
        )
        _refuse_memory(z)  # to what is called past the dispatcher: there is none
        z.has_graph = graph
        z.owner = owner
        z.link = self
        self.tensor = weakref.ref(z)
        return z

    def layer(self) -> ChainLayer:
        """The layer as the recorder takes it."""
        own = self.linear
        call = self.call or NO_ACTIVATION
        return ChainLayer(own.weight, own.bias, own.name, call, self.also, self.pre_also)

    def feeds_only(self, after: Link) -> bool:
        """Whether nobody but the link after it can ever ask for the result."""
        return (
            after.linear.x is self
            and self.readers == 1
            and self.tensor() is None
            and (self.reader is None or self.reader() is None)
        )


class Unseen(BaseException):
    """Ends a forward that looks for a graph where there is none.

    It takes a DeferredTensor past torch's functions, as an extension does. No Exception, so that
    nets do not catch it.
    """


class DeferredTensor(Tensor):
    """The result of a link; an ordinary tensor to whoever looks.

    value: the result, once something needed it. link: what to compute it from, until then.
    has_graph: whether the value has a graph, which whoever takes this for a tensor would not see.
    stream: the CUDA stream that made the value, perhaps after others had waited for it.
    """

    has_graph = False
    stream: int | None = None
    value: Tensor | None = None
    link: Link
    owner: Owner

    def is_in_chain(self) -> bool:
        """Whether an activation and the layer before it have not run yet."""
        return self.value is None and self.link.call is not None

    def resolve(self) -> Tensor:
        """The values, computed at the first call.

        Raises:
            Unseen: somebody holds more of this tensor than its Python object.
        """
        if self.has_graph and _holders(self) > 1:
            raise Unseen
        if self.value is None:
            owner = self.__dict__.get("owner")  # none where another thread has settled it just now
            if owner is not None:
                with owner.lock:
                    if self.value is None:
                        self.settle(run_undisturbed(owner.evaluate, self))
        value = self.value
        assert value is not None
        if self.stream is not None:
            wait_for(value.device, (self.stream,))
        return value

    def settle(self, value: Tensor) -> None:
        """Be this value from now on, unless there is one."""
        if self.value is not None:
            return
        self.value, self.stream = value, self.link.linear.stream
        self.owner.settled.append(weakref.ref(self))
        del self.link, self.owner

    def as_subclass(self, cls: type[Any]) -> Any:
        """As of any tensor; torch asks neither modes nor subclasses for it."""
        return self.resolve().as_subclass(cls)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        waits = (type(a) is not DeferredTensor or a.value is None for a in args)
        if func in METADATA and all(waits):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return func(*resolved(args), **resolved(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*resolved(args), **resolved(kwargs or {}))


def resolved(value: Any) -> Any:
    """The same arguments, with the values of every DeferredTensor among them.

    What holds none stays the object that it is.
    """
    kind = type(value)
    if kind is DeferredTensor:
        return value.resolve()
    if kind in _RESOLVED:
        return value
    if isinstance(value, (tuple, list)):
        found = [resolved(item) for item in value]
        if all(map(is_, found, value)):
            return value
        return tuple(found) if isinstance(value, tuple) else found
    if isinstance(value, dict):
        items = {k: resolved(v) for k, v in value.items()}
        return value if all(map(is_, items.values(), value.values())) else items
    return value


def values_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The same arguments, with the values of what waits and stands alone."""
    values = [a.resolve() if type(a) is DeferredTensor else a for a in args]
    named = {k: a.resolve() if type(a) is DeferredTensor else a for k, a in kwargs.items()}
    return tuple(values), named


_RESOLVED = frozenset((Tensor, Parameter, NoneType, bool, int, float, str, torch.Size))
"""The usual arguments, which hold no DeferredTensor."""
