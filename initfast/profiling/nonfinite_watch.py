"""Watches every operator of a run for the one that makes NaN or infinities, and where they go.

A dispatch mode sees what torch runs below autograd, in the backward too. A result that is not
finite though every input is has its source there; one of inputs that are not passes theirs on; and
NaN of infinities alone (inf - inf, a softmax row of -inf) has a source of its own, which names the
source of these.
"""

from __future__ import annotations

import linecache
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from initfast.diagnosis.function_calls import FunctionCall, Reason
from initfast.diagnosis.nonfinite_reasons import reason
from initfast.nets.pytree import tensors
from initfast.stats.moments import Moments
from initfast.stats.nonfinite_source import NonfiniteSource
from initfast.stats.text import number

_LIBRARIES = (f"{Path(torch.__file__).parent}/", f"{Path(__file__).parents[1]}/")
"""Where no plain code of the net is."""

_NAMES = {
    **{"mm": "matmul", "bmm": "matmul", "addmm": "linear", "linalg_vector_norm": "norm"},
    "weight_norm_interface": "weight_norm",
}
_PARTS = re.compile(r"^_+|^native_|^miopen_|^cudnn_|_(forward|legit|no_training|copy)\b|_+$")
_UNREAD = re.compile(r"(copy|fill|zero|uniform|normal|random|exponential|bernoulli)_$")
"""In-place functions that do not read what they write to."""


_BACKWARD = "the backward of "
_POLE = re.compile(r" / 0 is |\bof 0 is infinite|^0 to the power")
_SLOPE = (
    "keep its input away from there: clamp it, or add a small number to it, before the function "
    "and not after"
)
_AN_INFINITY = (
    "let a softmax follow the infinity at once, or let a large finite number stand in its place"
)


class Result(NamedTuple):
    """A result that is not finite.

    Attributes:
        name: of the function that made it.
        module: the path of the innermost module that ran.
        has_nan: whether NaN is among its values.
        size, nonfinite: how many values it has, and how many of them are not finite.
        source: where they begin.
    """

    name: str
    module: str
    has_nan: bool
    size: int
    nonfinite: int
    source: NonfiniteSource


class NonfiniteWatch(TorchDispatchMode):
    """Finds the source of each non-finite result while it is active.

    Args:
        running: the paths of the modules that run, the innermost last.
        seen: is told of each such result.
        before_write: is told what an operator is about to write to.
        outermost: the function that calls the net: no frame outside it is plain code of the net.
    """

    def __init__(
        self,
        running: Sequence[str],
        seen: Callable[[Result], None],
        before_write: Callable[[Tensor], None],
        outermost: CodeType,
    ) -> None:
        super().__init__()
        self._running = running
        self._seen = seen
        self._before_write = before_write
        self._outermost = outermost
        self._sources: dict[int, NonfiniteSource] = {}  # by where the memory begins

    def know(self, t: Tensor, kind: Any, name: str) -> None:
        """A tensor that is there before the net runs; what is not finite in it begins there."""
        with suppress(Exception):
            if _has_values(t) and not t.isfinite().all():
                source = NonfiniteSource(kind=kind, name=name, **_output(t))
                self._sources.setdefault(t.untyped_storage().data_ptr(), source)

    def source(self, t: Tensor) -> NonfiniteSource | None:
        """Where the values of t that are not finite begin; None where all are, or nobody knows."""
        if not _has_values(t) or t.isfinite().all():
            return None
        return self._sources.get(t.untyped_storage().data_ptr())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        before: dict[int, Tensor] = {}
        if func._schema.is_mutable:
            for t in _written(func, args, kwargs):
                self._before_write(t)
                before[id(t)] = t.detach().clone()
        output = func(*args, **kwargs)
        found: list[Result] = []
        with suppress(Exception):  # tensors of which nobody can ask whether they are finite
            found = list(self._results(func, args, kwargs, output, before))
        for result in found:
            self._seen(result)
        return output

    def _results(
        self, func: Any, args: Any, kwargs: Any, output: Any, before: dict[int, Tensor]
    ) -> Iterator[Result]:
        name: str = func.overloadpacket.__name__
        if name.startswith(("empty", "new_empty", "resize")):
            for _, t in tensors(output):
                self._sources.pop(t.untyped_storage().data_ptr(), None)
            return
        read = [t for _, t in tensors((args[1:] if _UNREAD.search(name) else args, kwargs))]
        read = [t for t in read if _has_values(t) and t is not kwargs.get("out")]
        places = {t.untyped_storage().data_ptr() for t in read}
        made = list(dict.fromkeys(t for _, t in tensors(output) if _has_values(t)))
        for y in made:
            begin, bad = y.untyped_storage().data_ptr(), ~y.isfinite()
            if not bad.any():
                if begin not in places or y.nbytes == y.untyped_storage().nbytes():
                    self._sources.pop(begin, None)
                continue
            source = self._source_of(func, args, kwargs, y, read, before)
            self._sources[begin] = source
            module = self._running[-1] if self._running else ""
            has_nan, count = bool(y.isnan().any()), int(bad.sum())
            yield Result(_called(func), module, has_nan, y.numel(), count, source)

    def _source_of(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        y: Tensor,
        read: list[Tensor],
        before: dict[int, Tensor],
    ) -> NonfiniteSource:
        given = [(before.get(id(t), t), self._sources.get(_begin(t))) for t in read]
        given = [(t, source) for t, source in given if not t.isfinite().all()]
        passed = [self._known(source, t) for t, source in given]
        # What a mask means is the last to be blamed.
        passed.sort(key=lambda s: s.kind in ("constant", "buffer"))
        nan = [(t, source) for t, source in given if t.isnan().any()]
        if passed and not (y.isnan().any() and not nan):
            return self._known(nan[0][1], nan[0][0]) if nan and y.isnan().any() else passed[0]
        here = self._here(func, y, [before.get(id(t), t) for t in read])
        numbers = [a for a in (*args, *kwargs.values()) if isinstance(a, float)]
        if not passed and any(not math.isfinite(a) for a in numbers):
            value = next(a for a in numbers if not math.isfinite(a))
            why = f"{number(value)} is one of the arguments of {here.name}"
            advice = "leave it out" if math.isnan(value) else _AN_INFINITY
            return replace(here, kind="constant", why=why, advice=advice)
        found = Reason()
        with suppress(Exception):
            old = [before.get(id(a), a) for a in args]
            found = reason(FunctionCall(_plain_name(func), old, kwargs, y))
        if here.name.startswith(_BACKWARD) and not passed and _POLE.search(found.why):
            function = here.name.removeprefix(_BACKWARD)
            found = Reason(
                f"the slope of {function} has no finite value there: {found.why}", _SLOPE
            )
        return replace(here, taken=passed[0] if passed else None, **found._asdict())

    def _known(self, source: NonfiniteSource | None, t: Tensor) -> NonfiniteSource:
        """The source of values that are there already; a tensor of unknown origin is a constant."""
        at, code = self._place()
        unknown = NonfiniteSource(kind="constant", name="", at=at, code=code, **_output(t))
        return source or unknown

    def _here(self, func: Any, y: Tensor, read: list[Tensor]) -> NonfiniteSource:
        node = torch._C._current_autograd_node()
        at, code = self._place()
        name = _called(func)
        if node is not None:
            name = f"{_BACKWARD}{_forward_name(node.name())}"
        return NonfiniteSource(
            kind="function",
            name=name,
            module=self._running[-1] if self._running else "",
            at=at,
            code=code,
            inputs=tuple(_moments(t) for t in read if not t.is_complex()),
            **_output(y),
        )

    def _place(self) -> tuple[str, str]:
        """The file and line of the plain code that called, and that line."""
        node = torch._C._current_autograd_node()
        if node is not None:
            return self._place_of(node)
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code is not self._outermost:
            file, line = frame.f_code.co_filename, frame.f_lineno
            if not file.startswith((*_LIBRARIES, "<")):
                return f"{Path(file).name}:{line}", linecache.getline(file, line).strip()
            frame = frame.f_back
        return "", ""

    def _place_of(self, node: Any) -> tuple[str, str]:
        """Likewise, of what has made the node of a graph, from the detection of anomalies."""
        outermost = f"in {self._outermost.co_name}"
        for entry in reversed(node.metadata.get("traceback_") or []):
            found = re.match(r'\s*File "(.*)", line (\d+), (.*)', entry)
            if found is None or (_is_library(found[1]) and found[3].startswith(outermost)):
                break
            if not _is_library(found[1]):
                file, line = found[1], int(found[2])
                return f"{Path(file).name}:{line}", linecache.getline(file, line).strip()
        return "", ""


def _is_library(file: str) -> bool:
    return file.startswith((*_LIBRARIES, "<"))


def _plain_name(func: Any) -> str:
    """torch's name of an operator, as a reader knows it."""
    name: str = func.overloadpacket.__name__
    if name == "_to_copy":
        return "to"
    name = _PARTS.sub("", name)
    if name.startswith("scaled_dot_product"):  # one name for each kernel that computes it
        return "scaled_dot_product_attention"
    return {"linalg_vector_norm": "norm", "safe_softmax": "softmax"}.get(name, name)


def _called(func: Any) -> str:
    """What a user calls it."""
    return _NAMES.get(name := _plain_name(func), name)


def _forward_name(node: str) -> str:
    """Of the function whose backward a node is: SqrtBackward0 is that of sqrt."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.sub(r"Backward\d*$", "", node)).lower()
    return _NAMES.get(words := _PARTS.sub("", words), words)


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operator says it writes to."""
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[i] if i < len(args) else kwargs.get(argument.name)
            yield from (t for _, t in tensors(given) if _has_values(t))


def _has_values(t: Any) -> bool:
    """Whether a tensor's values can be NaN or infinite, and looked at."""
    is_number = t.is_floating_point() or t.is_complex()
    return bool(is_number) and t.layout is torch.strided and not t.is_meta


def _begin(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _output(y: Tensor) -> dict[str, Any]:
    return {"output": _moments(y), "has_nan": bool(y.isnan().any())}


def _moments(t: Tensor) -> Moments:
    try:
        return Moments.of(t.detach())
    except (TypeError, ValueError):  # complex numbers
        return Moments(t.numel())


def paths_of(them: Iterable[tuple[str, Any]]) -> Iterator[tuple[Tensor, str, str]]:
    """The parameters and buffers of modules, each with what it is and its path."""
    for path, module in them:
        for kind, own in (("parameter", module._parameters), ("buffer", module._buffers)):
            for name, t in own.items():
                if t is not None:
                    yield t, kind, f"{path}.{name}" if path else name
