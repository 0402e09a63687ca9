"""Sees a linear layer and the activation that follows, and runs the two as one operator.

While a :class:`Fusion` is active, ``F.linear`` returns a :class:`Pending`: a tensor that knows its
shape and not yet its values. An activation applied to it runs the pair as ``linear_act``; any other
use runs the linear layer alone. User code sees the values that it would see without:

- What waits is computed before anything that might change the memory it depends on. A function is
  taken to change memory unless it is known not to.
- A pre-activation that is used again after its activation is computed again, and not recorded
  again.
- Where gradients flow, under autocast, or where another tool watches the dispatcher, torch's own
  functions make the values, and the operators only measure them.

A function mode does not see NumPy write into memory shared with a tensor, nor an extension that is
called past the dispatcher: those must not change the input of a linear layer between the layer and
its activation.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.parameter import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils import swap_tensors

from initfast.spelling import FORMS, HARMLESS, METADATA, Call, Form, read_call
from initfast.tape import DTYPES, LINEAR_ACT, Linear, Tape, backend

_linear = F.linear
_make_wrapper = Tensor._make_wrapper_subclass
_grad_enabled = torch.is_grad_enabled
_autocast_enabled = torch._C._is_any_autocast_enabled
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._functorch.peek_interpreter_stack


class Pending(Tensor):
    """The result of a linear layer that has not run yet; an ordinary tensor to whoever looks.

    value: the result, once something needed it. layer: what to compute it from, until then.
    """

    value: Tensor | None = None
    layer: Linear
    fusion: Fusion

    def resolve(self) -> Tensor:
        """The values, computed at the first call."""
        value = self.value
        if value is None:
            with _undisturbed():
                value = self.fusion.evaluate(self)
            self.settle(value)
        return value

    def settle(self, value: Tensor) -> None:
        """Be this value from now on."""
        self.value = value
        self.fusion.settled.append(weakref.ref(self))
        del self.layer, self.fusion

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
    if kind is tuple or kind is list:
        return kind([resolved(v) for v in value])
    if kind is dict:
        return {k: resolved(v) for k, v in value.items()}
    return value


_ORDINARY = frozenset((Tensor, Parameter, Pending))


class Names(Protocol):
    """Tells where in the net an operator runs."""

    def name(self, module: nn.Module) -> str:
        """The path of a module of the net."""

    def of(self, weight: Tensor) -> str:
        """The name of the layer that owns a weight."""

    def here(self) -> str:
        """The name of the module whose code is running."""

    def blame(self, error: Exception, name: str, detail: str) -> None:
        """Add to an error the layer that it comes from."""


# ---- the mode ----


class Fusion(TorchFunctionMode):
    """Runs each linear layer together with its activation, and records both on a tape."""

    def __init__(self, tape: Tape, names: Names) -> None:
        super().__init__()
        self._tape = tape
        self._names = names
        # Results that nothing has used yet, by id, kept alive by their entry.
        self._waiting: dict[int, tuple[Tensor, Linear]] = {}
        # Pre-activations without a value whose activation has run; then those with a value.
        self._consumed: list[weakref.ref[Pending]] = []
        self.settled: list[weakref.ref[Pending]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (not types or _ORDINARY.issuperset(types)) and _transforms() is None:
            if func is _linear:
                return self._defer(*args, **(kwargs or {}))
            form = FORMS.get(func)
            if form is not None:
                return self._activation(form, func, args, kwargs or {})
        return self._other(func, args, kwargs or {})

    def awaits(self, t: Tensor) -> bool:
        """Whether t is the result of a linear layer that will be measured when it is used."""
        return id(t) in self._waiting

    def settle(self) -> None:
        """Compute and record whatever waits: what follows may write to memory."""
        self._tape.writes += 1
        for z, layer in list(self._waiting.values()):
            if type(z) is Pending:
                z.resolve()
            else:
                del self._waiting[id(z)]
                with _undisturbed():
                    key, name = layer[3:]
                    self._tape.act(name, key, z, "identity", 0.0, 0.0, layer, partial(_same, z))
        consumed, self._consumed = self._consumed, []
        for ref in consumed:
            if (pending := ref()) is not None:
                pending.resolve()

    def release(self) -> None:
        """Turn every Pending that user code still holds into an ordinary tensor."""
        refs, waiting = [*self._consumed, *self.settled], list(self._waiting.values())
        self._waiting, self._consumed, self.settled = {}, [], []
        held = [z for z, _ in waiting if type(z) is Pending]
        held += [z for ref in refs if (z := ref()) is not None]
        refs.clear()
        for pending in held:
            # What the layer cannot compute now, it raises when the tensor is used; a tensor that
            # user code has weak references to stays a Pending, which serves as well.
            with suppress(Exception):
                value = pending.resolve()
                self.settled.clear()
                swap_tensors(pending, value.detach())

    # ---- linear layers ----

    def _defer(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = input.resolve() if type(input) is Pending else input
        name = self._names.of(weight)
        key = _kernels(x, weight, bias)
        if key is None or _watched():
            return self._run_plainly(x, weight, bias, name)
        shape = (*x.shape[:-1], weight.shape[0])
        z = _make_wrapper(Pending, shape, dtype=x.dtype, device=x.device)
        z.fusion = self
        z.layer = layer = (x, weight, bias, key, name)
        self._waiting[id(z)] = (z, layer)
        return z

    def _run_plainly(self, x: Tensor, weight: Tensor, bias: Tensor | None, name: str) -> Tensor:
        try:
            z = _linear(x, weight, bias)
        except Exception as error:
            self._names.blame(error, name, _mismatch(x, weight))
            raise
        if z.dtype in DTYPES and (key := backend(z)) is not None:
            self._waiting[id(z)] = (z, (x, weight, bias, key, name))
        return z

    def evaluate(self, pending: Pending) -> Tensor:
        """Run the linear layer alone; record it unless an activation has run it before."""
        layer = pending.layer
        if self._waiting.pop(id(pending), None) is None:
            x, weight, bias, key, _ = layer
            return LINEAR_ACT(key, x, weight, bias, "identity", 0.0, 0.0, False)[0]
        return self._tape.linear_act(layer, "identity", 0.0, 0.0)

    def run_pairs(self, pairs: Iterable[tuple[nn.Linear, Call]], x: Any) -> tuple[Any, int]:
        """Run linear modules and the activations after them, until one takes more than that.

        Returns:
            The last result (or x), and how many pairs have run.
        """
        done = 0
        with torch._C.DisableTorchFunction():
            x = x.resolve() if type(x) is Pending else x
            if type(x) is not Tensor or _transforms() is not None or _watched():
                return x, 0
            for linear, (act, alpha, beta, _) in pairs:
                own = linear._parameters
                if "weight" not in own or "bias" not in own:
                    break  # a buffer or a plain attribute: the module's own forward reads it
                weight, bias = own["weight"], own["bias"]
                if weight is None or (key := _kernels(x, weight, bias)) is None:
                    break
                layer = (x, weight, bias, key, self._names.name(linear))
                x = self._tape.linear_act(layer, act, alpha, beta)
                done += 1
        return x, done

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
            if not _autocast_enabled() and (entry := self._waiting.pop(id(z), None)) is not None:
                y = self._tape.linear_act(entry[1], act, alpha, beta)
                if in_place:
                    z.settle(y)
                else:
                    self._consumed.append(weakref.ref(z))
                return y
            z = z.resolve()
        key = backend(z) if z.dtype in DTYPES else None
        if key is None:
            y = self._other(func, args, kwargs)
            self._tape.output(self._names.here(), act, None, y)
            return y
        _, layer = self._waiting.pop(id(z), (z, None))
        function = None
        if in_place:
            self.settle()
        if in_place or _watched():
            function = partial(func, *resolved(args), **resolved(kwargs))
        name = layer[4] if layer else self._names.here()
        return self._tape.act(name, key, z, act, alpha, beta, layer, function)

    # ---- everything else ----

    def _other(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in METADATA:
            return func(*args, **kwargs)  # a Pending answers by itself
        if func not in HARMLESS or "out" in kwargs:
            self.settle()
        return func(*resolved(args), **resolved(kwargs))


def _kernels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
    """The dispatch key of the kernels for a linear layer, or None where they do not do it."""
    key, dtype, fans = backend(x), x.dtype, weight.shape
    if key is None or dtype not in DTYPES or len(fans) != 2 or x.dim() == 0:
        return None
    if x.shape[-1] != fans[1] or weight.dtype is not dtype or not _matches(weight, x, key):
        return None
    if bias is not None and (
        bias.dtype is not dtype or bias.shape != fans[:1] or not _matches(bias, x, key)
    ):
        return None
    return key


def _matches(t: Tensor, x: Tensor, key: Any) -> bool:
    """Whether t is on x's device and as plain as x; for a parameter this takes no dispatch keys."""
    if type(t) is Parameter and t.is_cpu and x.is_cpu:
        return t.layout is torch.strided
    return backend(t) is key and t.device == x.device


def _watched() -> bool:
    """Whether more than plain values is asked of the operators: gradients, casts, traces."""
    return (
        _grad_enabled()
        or _autocast_enabled()
        or _dispatch_modes() > 0
        or forward_ad._current_level >= 0
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No function mode, transform or cast applies to what runs here."""
    with ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        if _transforms() is not None:
            from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

            stack.enter_context(temporarily_clear_interpreter_stack())
        if _autocast_enabled():
            for device in ("cpu", "cuda"):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _mismatch(x: Tensor, weight: Tensor) -> str:
    """What a linear layer got and what it expects."""
    return (
        f"its input has shape {list(x.shape)}, {x.dtype}, on {x.device}; expected "
        f"[..., {weight.shape[-1]}], {weight.dtype}, on {weight.device}"
    )


def _same(z: Tensor) -> Tensor:
    return z
