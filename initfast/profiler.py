"""profile(): run a net once and report the scale of the signal at every layer."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initfast.fusion import Fusion, Pending
from initfast.report import Report
from initfast.sequential import shortened
from initfast.spelling import MODULES
from initfast.tape import NonFinite, Tape

UNHOOKED = {nn.Linear, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity, *MODULES}
"""Modules whose outputs are measured without a hook: what they compute is seen as it runs."""


def profile(net: Callable[..., Any], x: Any, *, stop_at_nonfinite: bool = False) -> Report:
    """Run net once on x, without gradients, and measure the signal at every layer.

    A linear layer and the activation that follows it, as a module, a function or a method, are one
    layer of the report and run as one operator. Activations that stand alone and the outputs of all
    other modules are measured too; integers and booleans are not. Statistics stay on their
    device until the end.

    The net runs in the mode, training or evaluation, that it is in. Gradients, hooks, the buffers
    of modules in training mode and torch's random state are left as they were, whatever the forward
    raises. What else the forward itself writes stays, as after any forward. Scripted modules run
    unmeasured.

    Args:
        net: a module, a bound method of one, or any callable. In a plain callable's report an
            operator is named by its position.
        x: the input: a tensor, a tuple of arguments or a dict of keyword arguments.
        stop_at_nonfinite: end the forward after the first layer with a NaN or an infinity, even
            inside a module that catches exceptions. This waits for the device at every layer.

    Returns:
        The :class:`Report`: one :class:`Layer` for each operator, in execution order.

    Raises:
        TypeError: net cannot be called.
        Exception: whatever the forward raises, with a note that names the layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10))
        >>> report = profile(net, torch.randn(16, 256))
        >>> [layer.op for layer in report.layers]
        ['linear + tanh', 'linear']
    """
    if not callable(net):
        raise TypeError(f"profile: net is a {type(net).__name__}; expected a module or a callable")
    root = net if isinstance(net, nn.Module) else getattr(net, "__self__", None)
    names = NetNames(root if isinstance(root, nn.Module) else None)
    tape = Tape(stop_at_nonfinite)
    fusion = Fusion(tape, names)
    with torch.no_grad(), _unchanged(names.modules):
        try:
            with _hooks(names, tape, fusion), shortened(names.modules, fusion), fusion:
                _call(net, x)
                fusion.settle()
        except NonFinite:
            pass
        except Exception as error:
            names.blame_running(error)
            raise
        finally:
            fusion.release()
    return Report(tape.read())


def _call(net: Callable[..., Any], x: Any) -> Any:
    if type(x) is tuple:
        return net(*x)
    if isinstance(x, Mapping):
        return net(**x)
    return net(x)


# ---- names ----


class NetNames:
    """The names of a net's modules and weights, and which module is running.

    Args:
        root: the net, or None for a plain callable; what runs outside the net's modules is named
            by its position among such operators.
    """

    def __init__(self, root: nn.Module | None) -> None:
        self.modules: list[nn.Module] = []
        self._names: dict[int, str] = {}
        self._weights: dict[int, tuple[Tensor, str] | None] = {}
        self._nameless = 0
        if root is not None:
            self._walk(root, "")

    def _walk(self, module: nn.Module, name: str) -> None:
        self.modules.append(module)
        self._names[id(module)] = name
        path = name + "." if name else ""
        for key, weight in module._parameters.items():
            if weight is not None and key != "bias":
                # A tied weight belongs to several layers: the running module tells which.
                tied = id(weight) in self._weights
                own = name if key == "weight" else path + key
                self._weights[id(weight)] = None if tied else (weight, own)
        for key, child in module._modules.items():
            if child is not None and id(child) not in self._names:
                self._walk(child, path + key)

    def name(self, module: nn.Module) -> str:
        """The path of a module of the net."""
        return self._names[id(module)]

    def of(self, weight: Tensor) -> str:
        """The path of the module that owns a weight, or of the module that is running."""
        entry = self._weights.get(id(weight))
        return entry[1] if entry is not None and entry[0] is weight else self.here()

    def here(self) -> str:
        """The path of the innermost module whose code is running."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            module = self._running(frame)
            if module is not None:
                return self.name(module)
            frame = frame.f_back
        self._nameless += 1
        return str(self._nameless - 1)

    def _running(self, frame: FrameType) -> nn.Module | None:
        """The module that a frame runs a method of."""
        if frame.f_code.co_argcount == 0:
            return None
        first = frame.f_locals.get(frame.f_code.co_varnames[0])
        known = isinstance(first, nn.Module) and id(first) in self._names
        return first if known else None

    def blame(self, error: Exception, name: str, detail: str) -> None:
        """Add a note to an error, once, that names the layer; its type and message stay."""
        notes = getattr(error, "__notes__", error.args)
        if any(isinstance(note, str) and _NOTE in note for note in notes):
            return
        note = f"{_NOTE} {name or 'the net'!r}: {detail}"
        if sys.version_info >= (3, 11):
            error.add_note(note)
        elif error.args and isinstance(error.args[0], str):
            error.args = (f"{error.args[0]}\n{note}", *error.args[1:])

    def blame_running(self, error: Exception) -> None:
        """Likewise, naming the innermost module that the error passed through."""
        trace, module = error.__traceback__, None
        while trace is not None:
            module = self._running(trace.tb_frame) or module
            trace = trace.tb_next
        if module is not None:
            self.blame(error, self.name(module), f"in {type(module).__name__}")


_NOTE = "initfast.profile: raised in layer"


# ---- the outputs of modules ----


@contextmanager
def _hooks(names: NetNames, tape: Tape, fusion: Fusion) -> Iterator[None]:
    """Measure the outputs of the modules that the fusion does not see into.

    Scripted modules take no hooks and run unmeasured.
    """

    def measure(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return  # inside a transform such as vmap there are no plain values to measure
        with torch._C.DisableTorchFunction():
            found = [(path, t) for path, t in _tensors(output) if t.dtype.is_floating_point]
            x = next((t for _, t in _tensors(args)), None)
            for path, t in found:
                if (y := _value(t)) is None or fusion.awaits(t):
                    continue
                head = type(module).__name__ + (path if len(found) > 1 else "")
                tape.output(names.name(module), head, None if x is t else _value(x), y)

    handles = []
    try:
        for module in names.modules:
            if type(module) not in UNHOOKED and not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_hook(measure))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _value(t: Tensor | None) -> Tensor | None:
    """What can be measured of t now: a Pending without a value has none yet."""
    return t.value if isinstance(t, Pending) else t


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested tuples, lists, mappings and dataclasses, with its path."""
    if isinstance(value, Tensor):
        yield path, value
        return
    items: Any = ()
    if isinstance(value, Mapping):
        items = ((f"[{key!r}]", item) for key, item in value.items())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        items = ((f".{field.name}", getattr(value, field.name)) for field in fields)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = ((f".{name}", item) for name, item in zip(value._fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        items = ((f"[{i}]", item) for i, item in enumerate(value))
    for step, item in items:
        yield from _tensors(item, path + step)


# ---- as it was ----


@contextmanager
def _unchanged(modules: list[nn.Module]) -> Iterator[None]:
    """Put the random state and the buffers of training modules back at the end."""
    random = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    saved = [(m._buffers, dict(m._buffers.items()), _copies(m)) for m in modules if m._buffers]
    try:
        yield
    finally:
        torch.set_rng_state(random)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        for buffers, before, copies in saved:
            for tensor, copy in copies:
                # .data counts its versions apart: an older graph may have saved the tensor.
                tensor.data.copy_(copy)
            if isinstance(buffers, dict):
                buffers.clear()
                buffers.update(before)


def _copies(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Copies of the buffers that a forward may write to: those of a module in training mode.

    Whether it did cannot be told: batch norm writes past the version counter.
    """
    return [
        (t, t.clone())
        for t in module._buffers.values()
        if module.training
        and t is not None
        and not is_lazy(t)
        and not t.is_inference()
        and torch._debug_has_internal_overlap(t) != 1  # expanded: torch refuses to write to it
    ]
