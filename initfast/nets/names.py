"""The names of a net's modules and weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FrameType

from torch import Tensor, nn

from initfast.errors import add_note, notes_of

_NOTE = "initfast.profile: raised in layer"


def is_blamed(error: Exception) -> bool:
    """Whether a note of ours says which layer raised an error."""
    return any(_NOTE in note for note in notes_of(error))


class NetNames:
    """The names of a net's modules and weights.

    Args:
        root: the net, or the modules of a plain callable by their names; what runs outside them is
            named by its position among such operators.

    Attributes:
        modules: all of them, each once.
        is_callable: whether the net is a plain callable.
        computed: the paths of the modules that gave a linear layer a weight that they computed.
    """

    def __init__(self, root: nn.Module | Mapping[str, nn.Module]) -> None:
        self.modules: list[nn.Module] = []
        self._names: dict[int, str] = {}
        self._weights: dict[int, tuple[Tensor, str] | None] = {}
        self._nameless = 0
        self.computed: set[str] = set()
        self.is_callable = not isinstance(root, nn.Module)
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

    def parameters(self) -> Iterator[Tensor]:
        """The parameters of all modules."""
        return (p for m in self.modules for p in m._parameters.values() if p is not None)

    def module(self, path: str) -> nn.Module | None:
        """The module of a path; None where that is not a module's."""
        return dict(zip(self._names.values(), self.modules, strict=True)).get(path)

    def name(self, module: nn.Module) -> str:
        """The path of a module of the net; of one made while it runs, its type in parentheses."""
        return self._names.get(id(module)) or self._unknown(module)

    def _unknown(self, module: nn.Module) -> str:
        return "" if id(module) in self._names else f"({type(module).__name__})"

    def of(self, weight: Tensor) -> str | None:
        """The path of the module that owns a weight; None where several do, or none."""
        entry = self._weights.get(id(weight))
        return entry[1] if entry is not None and entry[0] is weight else None

    def of_user(self, weight: Tensor, name: str) -> str:
        """The name of the module that uses a weight whose owner :meth:`of` does not tell.

        Such a weight is tied, or computed: which modules compute theirs is remembered.
        """
        if id(weight) not in self._weights:
            self.computed.add(name)
        return name

    def own_weights(self) -> list[bool]:
        """Whether each module's parameter called weight is the weight that it uses."""
        computed, paths = self.computed, self.paths()
        owners = ("weight" in module._parameters for module in self.modules)
        return [own and path not in computed for own, path in zip(owners, paths, strict=True)]

    def number(self) -> str:
        """The name of an operator that no module runs: its position among such."""
        self._nameless += 1
        return str(self._nameless - 1)

    def _running(self, frame: FrameType) -> nn.Module | None:
        """The module that a frame runs a method of."""
        if frame.f_code.co_argcount == 0 or _is_ours(frame):
            return None
        # The look may leave the frame a dict of its variables: in ours the error is one of them.
        first = frame.f_locals.get(frame.f_code.co_varnames[0])
        known = isinstance(first, nn.Module) and id(first) in self._names
        return first if known else None

    def blame(self, error: Exception, name: str, detail: str) -> None:
        """Add a note to an error, once, that names the layer; its type and message stay."""
        if is_blamed(error):
            return
        add_note(error, f"{_NOTE} {name or 'the net'!r}: {detail}")

    def blame_running(self, error: Exception) -> None:
        """Likewise, naming the innermost module that the error passed through."""
        trace, module, frame = error.__traceback__, None, None
        while trace is not None:
            running = self._running(trace.tb_frame)
            if running is not None:
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


def mismatch(x: Tensor, weight: Tensor) -> str:
    """What a linear layer got and what it expects."""
    expected = f"[..., {weight.shape[-1]}], {weight.dtype}, on {weight.device}"
    return f"its input has shape {_described(x)}; expected {expected}"


def _described(t: Tensor) -> str:
    return f"{list(t.shape)}, {t.dtype}, on {t.device}"
