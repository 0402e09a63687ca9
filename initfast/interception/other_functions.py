"""Every function that is no layer: what it may change, and whether its result is measured."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import Tensor

from initfast.interception.deferred_tensor import DeferredTensor, resolved, values_of
from initfast.interception.function_effects import (
    HARMLESS,
    LENDING,
    MEASURED,
    METADATA,
    SUMS,
    WRITING,
)
from initfast.interception.module_calls import Running
from initfast.interception.queue import Queue
from initfast.interception.torch_patches import EXPORTS
from initfast.nets.pytree import tensors
from initfast.ops.dispatch import kernels_of
from initfast.recording.events import Source
from initfast.recording.recorder import Recorder
from initfast.torch_state import transforms

_LENDING = LENDING | EXPORTS


class OtherFunctions:
    """Calls functions with the values they take, and measures sums and further activations.

    A function is taken to change memory unless it is known not to.

    Args:
        recorder: keeps what is measured.
        running: the modules that run.
        queue: what must run before them.

    Attributes:
        looked_at: the functions of which more is wanted than what they return.
    """

    def __init__(self, recorder: Recorder, running: Running, queue: Queue) -> None:
        self._recorder = recorder
        self._running = running
        self._queue = queue
        self._noted = _LENDING if recorder.before_write is None else _LENDING | WRITING
        self.looked_at = SUMS | MEASURED.keys() | self._noted

    def call(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        types: Any = (DeferredTensor,),
    ) -> Any:
        """What the function returns.

        Args:
            func, args, kwargs: the call.
            types: of its tensors that are no plain ones; what torch lists none of needs no look.
        """
        if func in METADATA:
            return func(*args, **kwargs)  # a DeferredTensor answers by itself
        if func not in HARMLESS or "out" in kwargs:
            self._queue.settle()
        if types:
            args, kwargs = _given_to(func, args, kwargs)
        if func in self._noted:
            self._note_write(func, args[0])
        if self._recorder.stops:
            return self._watched(func, args, kwargs)
        return self._measured(func, args, kwargs)

    def _note_write(self, func: Any, t: Any) -> None:
        if func in _LENDING:
            self._recorder.lend(t)
        if self._recorder.before_write is not None:
            self._recorder.before_write(t)

    def _measured(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function, and measure it where it is a residual sum or another activation."""
        if func in SUMS:
            return self._sum(func, args, kwargs)
        kind = MEASURED.get(func)
        if kind is None or transforms() is not None:
            return func(*args, **kwargs)
        self._queue.record()
        source = self._source(kind, args, kwargs, self._recorder.row)
        y = func(*args, **kwargs)
        if isinstance(y, Tensor):
            part = self._recorder.part(y)
            self._recorder.output(source._replace(unit_dim=self._queue.unit_dim(part)), part)
        return y

    def _sum(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) != 2 or not (isinstance(args[0], Tensor) and isinstance(args[1], Tensor)):
            return func(*args, **kwargs)
        self._queue.record()
        terms = (
            args
            if type(args[0]) is type(args[1]) is Tensor
            else tuple(map(self._recorder.part, args))
        )
        shape, rows = terms[0].shape, tuple(map(self._recorder.find_layer, terms))
        y = func(*args, **kwargs)
        if None not in rows and (kernels := kernels_of(part := self._recorder.part(y))) is not None:
            unit_dim = self._queue.unit_dim(part)
            kind = "add" if kwargs.get("alpha", 1) == 1 else "add_scaled"  # a + alpha b
            source = Source(kind, self._running.name(), shape, rows, unit_dim=unit_dim)
            self._queue.keep(source, part, kernels)
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
        shape = found[0].shape if found and not found[0].is_nested else None
        return Source(kind, self._running.name(), shape, tuple(map(row, found)))

    def _watched(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function whose name is wanted where it makes a non-finite value."""
        if transforms() is not None:
            return func(*args, **kwargs)
        self._queue.record()
        name = getattr(func, "__name__", type(func).__name__).strip("_")
        source = self._source(name, args, kwargs, self._recorder.glimpse)
        y = self._measured(func, args, kwargs)
        self._queue.record()
        for _, t in tensors(y):
            self._recorder.function(source, t)
        return y


def _given_to(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments of a function, with the values of what waits.

    A function written in Python may write to the lists and dicts that it is given, so it gets these
    very objects; what waits in them is a tensor to whatever it calls.
    """
    return (
        values_of(args, kwargs)
        if isinstance(func, FunctionType)
        else (resolved(args), resolved(kwargs))
    )


def run_plainly(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function of torch's returns, given the values of what waits."""
    return func(*resolved(args), **resolved(kwargs))
