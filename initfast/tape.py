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
    """One operator: what ran, and the addresses of its rows (see :class:`Tape`)."""

    kind: str  # "linear", "act", or a module's type
    act: str | None
    name: str
    input_shape: torch.Size | None
    shape: torch.Size | tuple[int, ...]
    dtype: torch.dtype
    input: int | None
    weight: int | None
    post: int


Linear = tuple[Tensor, Tensor, "Tensor | None", Any, str, "torch.Size | tuple[int, ...]"]
"""A linear layer's call: x, weight, bias, kernels' dispatch key, name, the result's shape."""


class Tape:
    """Runs the operators, and keeps what they measured and for which layers.

    A row's address is a plain integer: the pre- and post-activation of the k-th pair are 2k and
    2k + 1, the j-th single row is -(j + 1). So an address indexes the array that holds all pairs
    followed by the singles in reverse.

    Args:
        stop_at_nonfinite: look at each row as it comes, which waits for the device, and raise
            :class:`NonFinite` after the first operator that has a non-finite value.
    """

    def __init__(self, stop_at_nonfinite: bool = False) -> None:
        self._events: list[tuple[Any, ...]] = []
        self._pairs: list[Tensor] = []
        self._live: list[Tensor] = []  # one mask for each pair
        self._singles: list[Tensor] = []
        self._known: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}
        self._stop = stop_at_nonfinite
        self._end: int | None = None
        self.writes = 0  # how often a function ran that may have written to any tensor

    # ---- running and writing ----

    def linear_act(self, layer: Linear, act: str, alpha: float, beta: float) -> Tensor:
        """Run a linear layer and its activation ("identity": none) as one operator."""
        x, weight, bias, key, name, shape = layer
        # The weight is measured first: that streams it into the cache, where the product finds it.
        x_row, weight_row = self.row(x, key), self.row(weight, key)
        y, _, rows, live = LINEAR_ACT(key, x, weight, bias, act, alpha, beta, False)
        self._pair(("linear", act, name, x.shape, shape, x.dtype, x_row, weight_row), y, rows, live)
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
        head: tuple[Any, ...]
        if layer is None:
            head = ("act", act, name, z.shape, y.shape, y.dtype, None, None)
        else:
            x, weight = layer[:2]
            weight_row = self.row(weight) if weight.dim() == 2 else None
            head = ("linear", act, name, x.shape, y.shape, y.dtype, self.row(x), weight_row)
        self._pair(head, y, rows, live)
        return y

    def output(self, name: str, kind: str, x: Tensor | None, y: Tensor) -> None:
        """Measure any other output y, made from x, unless it is known or cannot be measured."""
        before = len(self._singles)
        post = self.row(y)
        if post is None or len(self._singles) == before:
            return
        shape, x_row = (None, None) if x is None else (x.shape, self.row(x))
        self._events.append((kind, None, name, shape, y.shape, y.dtype, x_row, None, post))
        if self._stop:
            self._check(self._singles[~post])

    def row(self, t: Tensor, key: Any = None) -> int | None:
        """The address of t's row, measured now unless it is known; None where it cannot be.

        Args:
            t: any tensor.
            key: its kernels' dispatch key, if the caller has it.
        """
        entry = self._known.get(id(t))
        if entry is not None and entry[0]() is t and entry[1] == self._version(t):
            return entry[2]
        if key is None and (t.dtype not in DTYPES or (key := backend(t)) is None):
            return None
        self._singles.append(MOMENTS(key, t))
        address = -len(self._singles)
        self._known[id(t)] = (weakref.ref(t), self._version(t), address)
        return address

    def _pair(self, head: tuple[Any, ...], y: Tensor, rows: Tensor, live: Tensor) -> None:
        self._pairs.append(rows)
        self._live.append(live)
        post = 2 * len(self._pairs) - 1
        self._events.append((*head, post))
        self._known[id(y)] = (weakref.ref(y), self._version(y), post)
        if self._stop:
            self._check(rows)

    def _version(self, t: Tensor) -> int:
        """How often t was written to; for inference tensors, which do not count, any tensor was."""
        try:
            return t._version
        except RuntimeError:
            return self.writes

    def _check(self, rows: Tensor) -> None:
        if rows.view(-1, 8)[:, 1].any():
            self._end = len(self._events)
            raise NonFinite

    # ---- reading ----

    def read(self) -> Callable[[], list[Layer]]:
        """Copy everything from the devices; the function returned makes the layers, when called.

        Making the layers takes ten times as long as copying their numbers, so it waits until
        somebody looks at them.
        """
        pairs, singles, live = self._pairs, self._singles, self._live
        devices = {t.device for t in pairs} | {t.device for t in singles}
        parts: list[tuple[list[int], list[int], np.ndarray]] = []
        for device in devices:
            p, s = (
                [i for i, t in enumerate(tensors) if len(devices) == 1 or t.device == device]
                for tensors in (pairs, singles)
            )
            parts.append((p, s, _copy(pairs, singles, live, p, s)))
        return partial(_layers, self._events[: self._end], parts, len(pairs), len(singles))


def _copy(
    pairs: list[Tensor], singles: list[Tensor], live: list[Tensor], p: list[int], s: list[int]
) -> np.ndarray:
    """The bytes of the rows of pairs p and singles s and of the pairs' live masks, in one copy."""
    parts = [torch.stack([pairs[i] for i in p])] if p else []
    parts += [torch.stack([singles[i] for i in s])] if s else []
    parts += [torch.cat([live[i] for i in p])] if p else []
    return torch.cat([part.view(torch.uint8).view(-1) for part in parts]).cpu().numpy()


def _layers(
    recorded: list[tuple[Any, ...]],
    parts: list[tuple[list[int], list[int], np.ndarray]],
    pairs: int,
    singles: int,
) -> list[Layer]:
    """The layers of the events, from what each device held."""
    events = [Event(*event) for event in recorded]
    rows = np.empty((2 * pairs + singles, 8))
    pair_rows, single_rows = rows[: 2 * pairs].reshape(-1, 2, 8), rows[::-1]
    units = {e.post // 2: e.shape[-1] if e.shape else 1 for e in events if e.post >= 0}
    dead: dict[int, int] = {}
    for p, s, data in parts:
        at = 128 * len(p)
        pair_rows[p] = data[:at].view(np.float64).reshape(-1, 2, 8)
        single_rows[s] = data[at : at + 64 * len(s)].view(np.float64).reshape(-1, 8)
        at += 64 * len(s)
        for i in p:
            n = units.get(i, 0)
            dead[i] = n - int(np.count_nonzero(data[at : at + n]))
            at += n
    made: dict[int, Moments] = {}

    def moments(address: int | None) -> Moments | None:
        if address is None:
            return None
        if address not in made:
            made[address] = Moments.from_row(rows[address].tolist())
        return made[address]

    return [_layer(event, moments, dead) for event in events]


def _layer(
    event: Event, moments: Callable[[int | None], Moments | None], dead: dict[int, int]
) -> Layer:
    is_pair = event.kind in ("linear", "act")
    has_pre = is_pair and event.act != "identity"
    post, pre = moments(event.post), moments(event.post - 1) if has_pre else None
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
        post=post or Moments(),
        pre=pre,
        input=pre if event.kind == "act" else moments(event.input),
        weight=weight,
        dead_units=dead[event.post // 2] if is_pair else None,
    )
