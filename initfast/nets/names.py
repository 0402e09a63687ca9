"""The names of a net's modules, and which of them is running."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType, FunctionType

from torch import Tensor, nn
from torch.overrides import handle_torch_function

from initfast.nets.activation_calls import FORMS, MODULES

_NOTE = "initfast.profile: raised in layer"
_ACTIVATIONS = {id(kind.forward.__code__) for kind in MODULES}
_BETWEEN = {
    id(function.__code__)
    for function in (*FORMS, handle_torch_function)
    if isinstance(function, FunctionType)
}

_ASKING = {
    __name__,
    "initfast.interception.function_mode",
    "initfast.interception.other_functions",
    "initfast.interception.queue",
}
"""The modules whose functions ask where they run, and are no part of a net."""


class NetNames:
    """The names of a net's modules and weights, and which module is running.

    Args:
        root: the net, or the modules of a plain callable by their names; what runs outside them is
            named by its position among such operators.
    """

    def __init__(self, root: nn.Module | Mapping[str, nn.Module]) -> None:
        self.modules: list[nn.Module] = []
        self._names: dict[int, str] = {}
        self._weights: dict[int, tuple[Tensor, str] | None] = {}
        self._nameless = 0
        roots = {"": root} if isinstance(root, nn.Module) else root
        for name, module in roots.items():
            if id(module) not in self._names:
                self._walk(module, name)

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

    def paths(self) -> list[str]:
        """The path of every module, in the order of `modules`."""
        return list(self._names.values())

    def module(self, path: str) -> nn.Module | None:
        """The module of a path; None where that is not a module's."""
        return dict(zip(self._names.values(), self.modules, strict=True)).get(path)

    def name(self, module: nn.Module) -> str:
        """The path of a module of the net; of one made while it runs, its type in parentheses."""
        return self._names.get(id(module)) or self._unknown(module)

    def _unknown(self, module: nn.Module) -> str:
        return "" if id(module) in self._names else f"({type(module).__name__})"

    def of(self, weight: Tensor) -> str:
        """The path of the module that owns a weight, or of the module that is running."""
        entry = self._weights.get(id(weight))
        return entry[1] if entry is not None and entry[0] is weight else self.here()

    def here(self) -> str:
        """The path of the innermost module whose code is running."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_globals.get("__name__") not in _ASKING:  # a look at the others' locals costs
                module = self._running(frame)
                if module is not None:
                    return self.name(module)
            frame = frame.f_back
        self._nameless += 1
        return str(self._nameless - 1)

    def activation(self) -> str | None:
        """The path of the activation module whose forward calls a function mode; None without one.

        It is called three frames below the mode's ``__torch_function__``. Between a module's
        forward and that lie a function written in Python, and modes that came first.
        """
        frame: FrameType | None = sys._getframe(3)
        while frame is not None:
            code = frame.f_code
            if id(code) in _ACTIVATIONS:
                module = self._running(frame)
                return None if module is None else self.name(module)
            if code.co_name != "__torch_function__" and id(code) not in _BETWEEN:
                return None
            frame = frame.f_back
        return None

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
        trace, module, frame = error.__traceback__, None, None
        while trace is not None:
            running = self._running(trace.tb_frame)
            if running is not None and not _is_ours(trace.tb_frame):
                module, frame = running, trace.tb_frame
            trace = trace.tb_next
        if module is not None and frame is not None:
            self.blame(error, self.name(module), _situation(module, frame))


def _is_ours(frame: FrameType) -> bool:
    """Whether it runs this package's code: that takes modules as arguments and is none of them."""
    return str(frame.f_globals.get("__name__")).startswith(__name__.partition(".")[0] + ".")


def _situation(module: nn.Module, frame: FrameType) -> str:
    """What a module was running on."""
    code = frame.f_code
    arguments = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
    given = next((_described(a) for a in arguments if isinstance(a, Tensor)), None)
    own = next(iter(module._parameters.values()), None)
    text = f"in {type(module).__name__}"
    if given is not None:
        text += f"; its input has shape {given}"
    if own is not None:
        text += f"; its first parameter has shape {_described(own)}"
    return text


def _described(t: Tensor) -> str:
    return f"{list(t.shape)}, {t.dtype}, on {t.device}"
