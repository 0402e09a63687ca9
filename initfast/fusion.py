"""Sees a layer and the activation that follows, and runs or measures the two as one operator.

While a :class:`Fusion` is active, ``F.linear`` returns a :class:`Pending`: a tensor that knows its
shape and not yet its values. An activation applied to it runs the pair as ``linear_act``, or, where
the layer is small, waits too, so that pairs that follow each other run as one chain; any other use
runs the linear layer alone. User code sees the values that it would see without:

- What waits is computed before anything that might change the memory it depends on. A function is
  taken to change memory unless it is known not to.
- A pre-activation that is used again after its activation is computed again, and not recorded
  again.
- A convolution or a norm has its values when it is seen: its activation is one read and one write.
  Anything else that runs next has it measured first. A linear layer without an activation is run,
  and recorded, where its result is first used.
- Where gradients flow, under autocast, or where another tool watches the dispatcher, torch's own
  functions make the values, and the operators only measure them; but for the pairs of an
  ``nn.Sequential``, which run as operators with a graph of their own.

A function mode does not see NumPy write into memory shared with a tensor, nor an extension that is
called past the dispatcher: those must not change what a layer reads between the layer and the first
use of its result, and an extension cannot take such a result before something else has used it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.parameter import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils import swap_tensors

from initfast.pending import Link, Pending, autocast_enabled, resolved, transforms, undisturbed
from initfast.spelling import (
    FORMS,
    HARMLESS,
    LENDING,
    MEASURED,
    METADATA,
    SUMS,
    Call,
    Form,
    read_call,
)
from initfast.structure import tensors
from initfast.tape import DTYPES, LINEAR_ACT, Linear, Source, Tape, backend, kernels_of

_linear = F.linear
_grad_enabled = torch.is_grad_enabled
_dispatch_modes = torch._C._len_torch_dispatch_stack
_saved_tensor_hooks = torch._C._autograd._top_saved_tensors_default_hooks


_ORDINARY = frozenset((Tensor, Parameter, Pending))


class Names(Protocol):
    """Tells where in the net an operator runs."""

    def name(self, module: nn.Module) -> str:
        """The path of a module of the net."""

    def of(self, weight: Tensor) -> str:
        """The name of the layer that owns a weight."""

    def here(self) -> str:
        """The name of the module whose code is running."""

    def activation(self) -> str | None:
        """The name of the activation module that calls; None where a function is called."""

    def blame(self, error: Exception, name: str, detail: str) -> None:
        """Add to an error the layer that it comes from."""


# ---- the mode ----


class Fusion(TorchFunctionMode):
    """Runs each linear layer together with its activation, and records both on a tape.

    Args:
        tape: records them.
        names: of the net's modules.
        plain: torch's own functions make every value, and the operators only measure.
    """

    def __init__(self, tape: Tape, names: Names, plain: bool = False) -> None:
        super().__init__()
        self._tape = tape
        self._names = names
        self._plain = plain
        # Results that nothing has used yet, by id, kept alive by their entry: linear layers that
        # have not run, and what has its values and is not measured.
        self._waiting: dict[int, tuple[Tensor, Any]] = {}
        # Linear layers and their activations that have not run, in order.
        self._deferred: list[Link] = []
        self._also: dict[int, list[str]] = {}  # whose output a waiting result is too
        self._unit_dims: dict[int, int] = {}  # of the last layer, by its count of dimensions
        # Pre-activations without a value whose activation has run; then those with a value.
        self._consumed: list[weakref.ref[Pending]] = []
        self.settled: list[weakref.ref[Pending]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (not types or _ORDINARY.issuperset(types)) and transforms() is None:
            if func is _linear:
                return self._defer(*args, **(kwargs or {}))
            form = FORMS.get(func)
            if form is not None:
                return self._activation(form, func, args, kwargs or {})
        return self._other(func, args, kwargs or {})

    def awaits(self, t: Tensor, name: str | None = None) -> bool:
        """Whether t will be measured when it is used; it then is the named module's output too."""
        if isinstance(t, Pending) and t.is_deferred():
            also = t.link.also
        elif id(t) in self._waiting:
            also = self._also.setdefault(id(t), [])
        else:
            return False
        if name is not None:
            also.append(name)
        return True

    def made(self, source: Source, y: Tensor) -> None:
        """An output to measure with the activation that follows, or before anything else runs."""
        self.record()
        self._waiting[id(y)] = (y, source)
        self._unit_dims[y.dim()] = source.unit_dim

    def record(self) -> None:
        """Run and measure what waits, but for linear layers whose activation may follow, in order.

        Results with values and deferred layers never wait at the same time.
        """
        if self._deferred:
            with undisturbed():
                self._run_deferred()
            return
        if not self._waiting:
            return
        plain = [(z, source) for z, source in self._waiting.values() if type(z) is not Pending]
        if plain:
            with undisturbed():
                for z, source in plain:
                    del self._waiting[id(z)]
                    self._tape.output(source, z)
                    self._named(z, z)

    def settle(self) -> None:
        """Compute and record whatever waits: what follows may write to memory."""
        self._tape.writes += 1
        self.record()
        for z, _ in list(self._waiting.values()):
            z.resolve()  # type: ignore[attr-defined]
        consumed, self._consumed = self._consumed, []
        for ref in consumed:
            if (pending := ref()) is not None:
                pending.resolve()

    def release(self) -> None:
        """Turn every Pending that user code still holds into an ordinary tensor."""
        refs, waiting = [*self._consumed, *self.settled], list(self._waiting.values())
        self._waiting, self._consumed, self.settled, self._also = {}, [], [], {}
        held = [z for z, _ in waiting if type(z) is Pending]
        held += [z for ref in refs if (z := ref()) is not None]
        held += [z for link in self._deferred if (z := link.tensor()) is not None]
        refs.clear()
        for pending in held:
            # What the layer cannot compute now, it raises when the tensor is used; a tensor that
            # user code has weak references to stays a Pending, which serves as well.
            with suppress(Exception):
                value = pending.resolve()
                self.settled.clear()
                swap_tensors(pending, value.detach())

    def _watched(self) -> bool:
        """Whether more than plain values is asked of the operators: gradients, casts, traces."""
        return _grad_enabled() or self._observed()

    def _observed(self) -> bool:
        """Likewise, gradients aside; or the very bits of torch's own functions."""
        seen = autocast_enabled() or _dispatch_modes() > 0 or forward_ad._current_level >= 0
        return self._plain or seen

    # ---- linear layers ----

    def _defer(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        watched = self._watched()
        x: Tensor | Link = input
        if type(input) is Pending:
            x = input.link if input.is_deferred() and not watched else input.resolve()
        name = self._names.of(weight)
        key = None if watched else _kernels(x, weight, bias)
        if key is None:
            x = input.resolve() if type(input) is Pending else input
            return self._run_plainly(x, weight, bias, name)
        link = Link(x, weight, bias, key, name, None, (*x.shape[:-1], weight.shape[0]))
        z = link.stand_in(self)
        if isinstance(x, Link):
            x.readers += 1
            x.reader = link.tensor
        self._waiting[id(z)] = (z, link)
        self._unit_dims[len(link.shape)] = -1
        return z

    def _run_plainly(self, x: Tensor, weight: Tensor, bias: Tensor | None, name: str) -> Tensor:
        if self._deferred:
            self.record()
        weight, bias = resolved(weight), resolved(bias)
        try:
            z = _linear(x, weight, bias)
        except Exception as error:
            self._names.blame(error, name, _mismatch(x, weight))
            raise
        if kernels_of(z) is not None:
            row = self._tape.weight(weight) if weight.dim() == 2 else None
            self._waiting[id(z)] = (z, Source("linear", name, x.shape, (self._tape.row(x),), row))
        return z

    def evaluate(self, pending: Pending) -> Tensor:
        """Run what a Pending stands for; record it unless that has been done."""
        link, waits = pending.link, self._waiting.pop(id(pending), None) is not None
        if waits or self._deferred:
            self.record()
        if not waits:
            return self._value(link)
        y = self._tape.linear_act(self._layer(link), "identity", 0.0, 0.0)
        self._named(pending, y)
        return y

    def _layer(self, link: Link) -> Linear:
        x = self._value(link.x) if isinstance(link.x, Link) else link.x
        return x, link.weight, link.bias, link.key, link.name

    def _value(self, link: Link) -> Tensor:
        """The result of a link, computed without a record where it is not known."""
        if link.value is None:
            x, weight, bias, key, _ = self._layer(link)
            act, alpha, beta, _ = link.call or _NO_CALL
            link.value = LINEAR_ACT(key, x, weight, bias, act, alpha, beta, False)[0]
        return link.value

    def _run_deferred(self) -> None:
        """Run what is deferred: each stretch that feeds but itself as one operator."""
        links, self._deferred = self._deferred, []
        start = 0
        for end, link in enumerate(links, start=1):
            if end < len(links) and link.feeds_only(links[end]):
                continue
            chain = links[start:end]
            x, key = self._layer(chain[0])[0], chain[0].key
            layers = [(a.weight, a.bias, a.name, a.call or _NO_CALL) for a in chain]
            link.value, addresses = self._tape.linear_act_chain(x, key, layers)
            for a, address in zip(chain, addresses, strict=True):
                for name in a.also:
                    self._tape.also_at(address, name)
            if (pending := link.tensor()) is not None:
                pending.settle(link.value)
            start = end

    def _named(self, z: Tensor, y: Tensor) -> None:
        """The modules whose output z is too have the layer that y is the output of."""
        for name in self._also.pop(id(z), ()) if self._also else ():
            self._tape.also(name, y)

    def run_pairs(self, pairs: Iterable[tuple[nn.Linear, Call]], x: Any) -> tuple[Any, int]:
        """Run linear modules and the activations after them, until one takes more than that.

        Returns:
            The last result (or x), and how many pairs have run.
        """
        with torch._C.DisableTorchFunction():
            x = x.resolve() if type(x) is Pending else x
            if type(x) is not Tensor or transforms() is not None or self._observed():
                return x, 0
            graph = _grad_enabled()
            if graph and not self._makes_graphs():
                return x, 0
            key = backend(x)
            if key is None or x.dim() == 0 or x.dtype not in DTYPES:
                return x, 0
            self.record()
            layers, width = [], x.shape[-1]
            for linear, call in pairs:
                own = linear._parameters
                if "weight" not in own or "bias" not in own:
                    break  # a buffer or a plain attribute: the module's own forward reads it
                weight, bias = own["weight"], own["bias"]
                if weight is None or not _fits(weight, bias, x, width, key):
                    break
                layers.append((weight, bias, self._names.name(linear), call))
                width = weight.shape[0]
            if layers and graph:
                x = self._tape.linear_act_with_graph(x, key, layers)
            elif layers:
                x, _ = self._tape.linear_act_chain(x, key, layers)
            return x, len(layers)

    def _makes_graphs(self) -> bool:
        """Whether the operator may take part in a graph: no checkpoint looks at what it saves."""
        gradients = self._tape.gradients
        return gradients is not None and gradients.fuse and _saved_tensor_hooks(True) is None

    def name_pairs(self, activations: Sequence[nn.Module]) -> None:
        """The activation modules of the pairs that ran last."""
        self._tape.also_last(list(map(self._names.name, activations)))

    # ---- activations ----

    def _activation(
        self, form: Form, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = form.plain if len(args) == 1 and not kwargs else None
        call = call or read_call(form, args, kwargs)
        if call is None:
            return self._other(func, args, kwargs)
        z, (act, alpha, beta, in_place) = args[0] if args else kwargs["input"], call
        if type(z) is Pending:
            # It carries no gradient, so that of what is watched only a cast concerns it.
            if not autocast_enabled() and (entry := self._waiting.pop(id(z), None)) is not None:
                link = entry[1]
                if not in_place:
                    self._consumed.append(link.tensor)
                    if not (self._tape.stops or _grad_enabled()) and _is_small(link):
                        return self._chain(z, link, call)
                self.record()
                y = self._tape.linear_act(self._layer(link), act, alpha, beta)
                self._named(z, y)
                self._name_activation(y)
                if in_place:
                    z.settle(y)
                return y
            z = z.resolve()
        key = kernels_of(z)
        if key is None:
            y = self._other(func, args, kwargs)
            self._tape.output(Source(act, self._names.here()), y)
            return y
        source = self._waiting.pop(id(z), (z, None))[1]
        self.record()
        if source is None:
            unit_dim = self._unit_dims.get(z.dim(), -1)
            source = Source("act", self._names.here(), unit_dim=unit_dim)
        if in_place:
            self.settle()
        function = None
        if self._watched() or (in_place and z.is_inference() > torch.is_inference_mode_enabled()):
            function = partial(func, *resolved(args), **resolved(kwargs))
        y = self._tape.act(source, key, z, act, alpha, beta, in_place, function)
        self._named(z, y)
        if source.kind != "act":
            self._name_activation(y)
        return y

    def _chain(self, z: Pending, link: Link, call: Call) -> Pending:
        """Defer the activation of a linear layer too."""
        if not self._deferred:
            self.record()
        pair = Link(link.x, link.weight, link.bias, link.key, link.name, call, link.shape)
        if self._also:
            pair.also += self._also.pop(id(z), ())
        if (name := self._names.activation()) is not None:
            pair.also.append(name)
        self._deferred.append(pair)
        return pair.stand_in(self)

    def _name_activation(self, y: Tensor) -> None:
        if (name := self._names.activation()) is not None:
            self._tape.also(name, y)

    # ---- everything else ----

    def _other(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in METADATA:
            return func(*args, **kwargs)  # a Pending answers by itself
        if func not in HARMLESS or "out" in kwargs:
            self.settle()
        args, kwargs = resolved(args), resolved(kwargs)
        if func in LENDING:
            self._tape.lend(args[0])
        if self._tape.stops:
            return self._watch(func, args, kwargs)
        return self._measured(func, args, kwargs)

    def _measured(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function, and measure it where it is a residual sum or another activation."""
        if func in SUMS:
            return self._sum(func, args, kwargs)
        kind = MEASURED.get(func)
        if kind is None or transforms() is not None:
            return func(*args, **kwargs)
        self.record()
        source = self._source(kind, args, kwargs, self._tape.row)
        y = func(*args, **kwargs)
        if isinstance(y, Tensor):
            self._tape.output(source, y)
        return y

    def _sum(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) != 2 or not (type(args[0]) is type(args[1]) is Tensor):
            return func(*args, **kwargs)
        self.record()
        shape, rows = args[0].shape, tuple(map(self._tape.find_layer, args))
        y = func(*args, **kwargs)
        if None not in rows and type(y) is Tensor and kernels_of(y) is not None:
            unit_dim = self._unit_dims.get(y.dim(), -1)
            self.made(Source("add", self._names.here(), shape, rows, unit_dim=unit_dim), y)
        return y

    def _source(
        self,
        kind: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        row: Callable[[Tensor], int | None],
    ) -> Source:
        """A function of these arguments, each measured by `row`."""
        found = [t for _, t in tensors((args, kwargs))]
        shape = found[0].shape if found else None
        return Source(kind, self._names.here(), shape, tuple(map(row, found)))

    def _watch(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function whose name is wanted where it makes a non-finite value."""
        if transforms() is not None:
            return func(*args, **kwargs)
        self.record()
        name = getattr(func, "__name__", type(func).__name__).strip("_")
        source = self._source(name, args, kwargs, self._tape.glimpse)
        y = self._measured(func, args, kwargs)
        self.record()
        for _, t in tensors(y):
            self._tape.function(source, t)
        return y


_MULTIPLY_ADDS = 1 << 23
"""Of a layer that takes Python as long as the processor, or less: some hundred microseconds."""

_NO_CALL = Call("identity", 0.0, 0.0, False)


def _is_small(link: Link) -> bool:
    """Whether the way through Python costs as much as the layer, and nothing runs meanwhile."""
    work = math.prod(link.shape) * link.weight.shape[1]
    return work < _MULTIPLY_ADDS and link.weight.is_cpu


def _kernels(x: Tensor | Link, weight: Tensor, bias: Tensor | None) -> Any:
    """The dispatch key of the kernels for a linear layer, or None where they do not do it."""
    if isinstance(x, Link):
        return x.key if _fits(weight, bias, x.weight, x.shape[-1], x.key) else None
    key = backend(x)
    if key is None or x.dtype not in DTYPES or x.dim() == 0:
        return None
    return key if _fits(weight, bias, x, x.shape[-1], key) else None


def _fits(weight: Tensor, bias: Tensor | None, x: Tensor, width: int, key: Any) -> bool:
    """Whether the kernels do a linear layer of inputs like x, but of this width."""
    fans, dtype = weight.shape, x.dtype
    if len(fans) != 2 or fans[1] != width or weight.dtype is not dtype:
        return False
    if not _matches(weight, x, key):
        return False
    if bias is None:
        return True
    return bias.dtype is dtype and bias.shape == fans[:1] and _matches(bias, x, key)


def _matches(t: Tensor, x: Tensor, key: Any) -> bool:
    """Whether t is on x's device and as plain as x; for a parameter this takes no dispatch keys."""
    if type(t) is Parameter and t.is_cpu and x.is_cpu:
        return t.layout is torch.strided
    return backend(t) is key and t.device == x.device


def _mismatch(x: Tensor, weight: Tensor) -> str:
    """What a linear layer got and what it expects."""
    return (
        f"its input has shape {list(x.shape)}, {x.dtype}, on {x.device}; expected "
        f"[..., {weight.shape[-1]}], {weight.dtype}, on {weight.device}"
    )
