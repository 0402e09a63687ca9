"""Attention, in whatever way a net computes it, seen as its functions are called.

`F.scaled_dot_product_attention` has the queries and keys as arguments.
`F.multi_head_attention_forward` has not, and runs as one function: a dispatch mode sees what it
calls. Where a net multiplies the queries and the keys itself, the softmax has the logits. That its
input are logits is known by where it comes from: a product of tensors that are no weights, by way
of any functions (scaling, a mask, another shape) but layers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parameter import Parameter
from torch.utils._python_dispatch import TorchDispatchMode

from initfast.interception.function_effects import MEASURED
from initfast.interception.module_calls import Running
from initfast.interception.queue import Queue
from initfast.nets.pytree import tensors
from initfast.nets.shards import local_part
from initfast.ops.dispatch import kernels_of
from initfast.recording import attention
from initfast.recording.events import Source
from initfast.recording.extended_recorder import ExtendedRecorder
from initfast.torch_state import is_traced, torchs_linear, transforms
from initfast.undo_log import UndoLog, with_undo_log

_NAME = "scaled_dot_product_attention"
_SDPA = F.scaled_dot_product_attention
_MULTI_HEAD = F.multi_head_attention_forward
_SOFTMAX = frozenset(f for f, name in MEASURED.items() if name == "softmax")
_PRODUCTS = frozenset(
    getattr(owner, name)
    for owner in (torch, Tensor)
    for name in ("matmul", "bmm", "mm", "baddbmm", "einsum", "__matmul__", "__rmatmul__")
    if hasattr(owner, name)
)
_LAYERS = frozenset(f for name, f in vars(F).items() if "conv" in name or "norm" in name) | {
    torchs_linear,
    F.bilinear,
    F.embedding,
}


class AttentionCalls:
    """Measures the logits of every attention that runs.

    Args:
        recorder: keeps what is measured.
        running: the modules that run.
        queue: what must be measured before a function's result.
    """

    def __init__(self, recorder: ExtendedRecorder, running: Running, queue: Queue) -> None:
        self._recorder = recorder
        self._running = running
        self._queue = queue
        self._products: dict[int, weakref.ref[Tensor]] = {}  # and what was made of them, by id

    def call(
        self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any], run: Any
    ) -> Any:
        """What a function returns.

        Args:
            func, types, args, kwargs: the call.
            run: runs it, as the function mode does without this.
        """
        if transforms() is not None or is_traced():
            return run(func, types, args, kwargs)
        if func is _MULTI_HEAD:
            return self._multi_head(types, args, kwargs, run)
        y = run(func, types, args, kwargs)
        if isinstance(y, Tensor):
            with torch._C.DisableTorchFunction(), torch._C._DisableAutocast():
                if func is _SDPA:
                    self._product(y, *args, **kwargs)
                elif func in _SOFTMAX:
                    self._softmax(y, *args, **kwargs)
                else:
                    self._follow(func, y, [t for _, t in tensors((args, kwargs))])
        return y

    # ---- the three ways ----

    def _product(
        self,
        y: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        *_: Any,
        **__: Any,
    ) -> None:
        """Of `F.scaled_dot_product_attention`, whose result becomes a row of the report."""
        y, q, k, v = map(local_part, (y, query, key, value))
        if kernels_of(y) is None or kernels_of(q) is None or kernels_of(k) is None:
            return
        self._queue.record()
        rows = tuple(map(self._recorder.row, (q, k, v)))
        self._recorder.output(Source(_NAME, self._running.name(), q.shape, rows), y)
        mask = _plain_mask(attn_mask)
        self._recorder.keep_attention(y, attention.of_product(q, k, mask, is_causal, scale))

    def _softmax(
        self, y: Tensor, input: Tensor, dim: int | None = None, *_: Any, **__: Any
    ) -> None:
        """Of a softmax that a net calls, if it takes a product."""
        z, y = local_part(input), local_part(y)
        if dim is not None and self._comes_from_product(input) and kernels_of(z) is not None:
            self._recorder.keep_attention(y, attention.of_logits(z, dim))

    def _multi_head(
        self, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any], run: Any
    ) -> Any:
        """Of `F.multi_head_attention_forward`: kept for the module that calls it."""
        found: list[Tensor] = []

        @wraps(_MULTI_HEAD)
        def watched(*args: Any, **kwargs: Any) -> Any:
            return with_undo_log(partial(_run_seen, _MULTI_HEAD, args, kwargs, found.append))

        y = run(watched, types, args, kwargs)
        if len(found) == 1:
            self._recorder.keep_attention_within(self._running.name(), found[0])
        return y

    # ---- where a softmax's input comes from ----

    def _follow(self, func: Any, y: Tensor, operands: list[Tensor]) -> None:
        """Remember a function's result if it is a product of two tensors, or made of one."""
        if func in _PRODUCTS:
            comes = len(operands) > 1 and not any(map(_is_weight, operands))
        else:
            comes = func not in _LAYERS and any(map(self._comes_from_product, operands))
        if comes:
            self._products[id(y)] = weakref.ref(y)

    def _comes_from_product(self, t: Tensor) -> bool:
        known = self._products.get(id(t))
        return known is not None and known() is t


def _is_weight(t: Tensor) -> bool:
    """Whether it is a parameter, or a view of one."""
    return isinstance(t, Parameter) or isinstance(t._base, Parameter)


def _plain_mask(mask: Tensor | None) -> Tensor | None:
    """A mask as a tensor; torch has one that only says what it would be (CausalBias)."""
    make: Callable[[], Tensor] | None = getattr(mask, "_materialize", None)
    return mask if make is None else make()


def _run_seen(
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    keep: Callable[[Tensor], None],
    log: UndoLog,
) -> Any:
    """What a function returns; what it does with logits is measured and kept."""
    mode = _Logits(keep)
    log.add(mode.__exit__, None, None, None)
    mode.__enter__()
    return func(*args, **kwargs)


class _Logits(TorchDispatchMode):
    """Sees the operators that attention ends in: a softmax, or a fused product and softmax."""

    def __init__(self, keep: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._keep = keep

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C._DisableAutocast():
            self._look(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _look(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = func._schema.name
        if "scaled_dot_product" in name:  # on each device fused ones of its own
            of = dict(_by_name(func, args, kwargs))
            mask = of.get("attn_mask", of.get("attn_bias"))
            causal, scale = of.get("is_causal", False), of.get("scale")
            self._keep(attention.of_product(of["query"], of["key"], mask, causal, scale))
        elif name in ("aten::_softmax", "aten::softmax", "aten::_safe_softmax"):
            self._keep(attention.of_logits(*args[:2]))


def _by_name(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments of an operator by their names in its schema."""
    yield from kwargs.items()
    for argument, value in zip(func._schema.arguments, args, strict=False):
        yield argument.name, value
