"""What a profile measured: rows of moments that stay on their device until the end.

The tape is written once for each operator while the net runs and read once afterwards: one copy
from each device, whatever the depth. It also remembers which tensors it has measured, so that no
tensor is measured twice and a layer's input need not be read again to know its scale.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from initfast import ops  # noqa: F401  (registers the operators)
from initfast.layer import Layer, Weight
from initfast.moments import Moments
from initfast.rows import Rows

DTYPES = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))

LINEAR_ACT = torch.ops.initfast.linear_act.default.redispatch
ACT = torch.ops.initfast.act.default.redispatch
MOMENTS = torch.ops.initfast.moments.default.redispatch

_keys_of = torch._C._dispatch_keys
_transforms = torch._C._functorch.peek_interpreter_stack
_dispatch_modes = torch._C._len_torch_dispatch_stack
_backends: dict[int, Any] = {}
_key_sets: dict[Any, Any] = {}


def backend(t: Tensor) -> Any:
    """The dispatch key set of the kernels for t, or None where t is not a plain dense tensor.

    Plain is what has the dispatch keys of a freshly made tensor: no subclass, no functorch
    wrapper, not sparse, quantised, nested, lazily conjugated, fake or on the meta device. Calling
    an operator by this key skips autograd, which is off, and halves the cost of the call.
    """
    raw = _keys_of(t).raw_repr()
    found = _backends.get(raw)
    return found if found is not None else _find_backend(t.device, raw)


def _find_backend(device: torch.device, raw: int) -> Any:
    key = getattr(torch._C.DispatchKey, device.type.upper(), None)
    if key is None or device.type == "meta" or _transforms() or _dispatch_modes():
        return None
    plain = [torch.empty(0, device=device)]
    with torch.inference_mode():
        plain.append(torch.empty(0, device=device))
    if raw not in [_keys_of(t).raw_repr() for t in plain]:
        return None
    _backends[raw] = _key_sets.setdefault(key, torch._C.DispatchKeySet(key))
    return _backends[raw]


class NonFinite(BaseException):
    """Ends a forward at its first non-finite value; no Exception, so that nets do not catch it."""


class Event(NamedTuple):
    """One operator: what ran, and the addresses of its rows and mask (see :class:`Rows`)."""

    kind: str  # "linear", "act", or a module's type
    act: str | None
    name: str
    input_shape: torch.Size | None
    shape: torch.Size
    dtype: torch.dtype
    input: int | None
    pre: int | None
    post: int
    weight: int | None
    live: int | None


Linear = tuple[Tensor, Tensor, "Tensor | None", Any, str]
"""A linear layer's call: x, weight, bias, the kernels' dispatch key, its name."""


class Tape:
    """Runs the operators, and keeps what they measured and for which layers.

    Args:
        stop_at_nonfinite: look at each row as it comes, which waits for the device, and raise
            :class:`NonFinite` after the first operator that has a non-finite value.
    """

    def __init__(self, stop_at_nonfinite: bool = False) -> None:
        self._events: list[tuple[Any, ...]] = []
        self._rows = Rows()
        # What was measured, by id: the tensor, its version then, the address of its row.
        self._known: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}
        self._stop = stop_at_nonfinite
        self._end: int | None = None
        self.writes = 0  # how often a function ran that may have written to any tensor

    # ---- running and writing ----

    def linear_act(self, layer: Linear, act: str, alpha: float, beta: float) -> Tensor:
        """Run a linear layer and its activation ("identity": none) as one operator."""
        x, weight, bias, key, name = layer
        x_row = self.row(x, key)
        y, _, rows, live = LINEAR_ACT(key, x, weight, bias, act, alpha, beta, False)
        pre = self._rows.add(rows, 3)
        head = ("linear", act, name, x.shape, y.shape, y.dtype, x_row, pre, pre + 1, pre + 2)
        self._record(head, y, rows, live)
        return y

    def act(
        self,
        name: str,
        key: Any,
        z: Tensor,
        act: str,
        alpha: float,
        beta: float,
        layer: Linear | None = None,
        function: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """Run an activation, of the layer that made z if one is given.

        Where a function is given it makes the result, and the operator only measures.
        """
        y, rows, live = ACT(key, z, act, alpha, beta, -1)
        if function is not None:
            y = function()
        pre = self._rows.add(rows, 2)
        head: tuple[Any, ...] = ("act", act, name, z.shape)
        x_row: int | None = pre
        weight_row = None
        if layer is not None:
            x, weight = layer[:2]
            head, x_row = ("linear", act, name, x.shape), self.row(x)
            weight_row = self.row(weight) if weight.dim() == 2 else None
        head = (*head, y.shape, y.dtype, x_row, pre, pre + 1, weight_row)
        self._record(head, y, rows, live)
        return y

    def output(self, name: str, kind: str, x: Tensor | None, y: Tensor) -> None:
        """Measure any other output y, made from x, unless it is known or cannot be measured."""
        if self._find(y) is not None or (key := _kernels_of(y)) is None:
            return
        rows = MOMENTS(key, y)
        post = self._keep(y, self._rows.add(rows, 1))
        shape, x_row = (None, None) if x is None else (x.shape, self.row(x))
        self._events.append(
            (kind, None, name, shape, y.shape, y.dtype, x_row, None, post, None, None)
        )
        if self._stop:
            self._check(rows)

    def row(self, t: Tensor, key: Any = None) -> int | None:
        """The address of t's row, measured now unless it is known; None where it cannot be.

        Args:
            t: any tensor.
            key: its kernels' dispatch key, if the caller has it.
        """
        address = self._find(t)
        if address is not None or (key is None and (key := _kernels_of(t)) is None):
            return address
        return self._keep(t, self._rows.add(MOMENTS(key, t), 1))

    def _find(self, t: Tensor) -> int | None:
        entry = self._known.get(id(t))
        if entry is None or entry[0]() is not t or entry[1] != self._version(t):
            return None
        return entry[2]

    def _keep(self, t: Tensor, address: int) -> int:
        self._known[id(t)] = (weakref.ref(t), self._version(t), address)
        return address

    def _version(self, t: Tensor) -> int:
        """How often t was written to; for inference tensors, which do not count, any tensor was."""
        try:
            return t._version
        except RuntimeError:
            return self.writes

    def _record(self, head: tuple[Any, ...], y: Tensor, rows: Tensor, live: Tensor) -> None:
        self._events.append((*head, self._rows.add_mask(live)))
        self._keep(y, head[8])
        if self._stop:
            self._check(rows)

    def _check(self, rows: Tensor) -> None:
        if rows.view(-1, 8)[:2, 1].any():
            self._end = len(self._events)
            raise NonFinite

    # ---- reading ----

    def read(self) -> Callable[[], list[Layer]]:
        """Copy everything from the devices; the function returned makes the layers, when called.

        Making the layers takes ten times as long as copying their numbers, so it waits until
        somebody looks at them.
        """
        return partial(_layers, self._events[: self._end], self._rows.read())


def _kernels_of(t: Tensor) -> Any:
    """The dispatch key of the kernels for t; None where they do not take it."""
    return backend(t) if t.dtype in DTYPES else None


def _layers(
    recorded: list[tuple[Any, ...]], read: Callable[[], tuple[np.ndarray, list[int]]]
) -> list[Layer]:
    """The layers of the events, from what the devices held."""
    rows, dead = read()
    made: dict[int, Moments] = {}

    def moments(address: int | None) -> Moments | None:
        if address is None:
            return None
        if address not in made:
            made[address] = Moments.from_row(rows[address].tolist())
        return made[address]

    return [_layer(Event(*event), moments, dead) for event in recorded]


def _layer(event: Event, moments: Callable[[int | None], Moments | None], dead: list[int]) -> Layer:
    has_pre = event.act is not None and event.act != "identity"
    weights, weight = moments(event.weight), None
    if weights is not None and event.input_shape is not None:
        weight = Weight(event.input_shape[-1], event.shape[-1], weights)
    op = event.kind if event.act is None else event.act
    if event.kind == "linear":
        op = f"linear + {event.act}" if has_pre else "linear"
    return Layer(
        name=event.name,
        op=op,
        input_shape=None if event.input_shape is None else tuple(event.input_shape),
        shape=tuple(event.shape),
        dtype=event.dtype,
        post=moments(event.post) or Moments(),
        pre=moments(event.pre) if has_pre else None,
        input=moments(event.input),
        weight=weight,
        dead_units=None if event.live is None else dead[event.live],
    )
