"""Which layers of a report a name finds, or a pattern."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from initfast.errors import kind_of
from initfast.stats.layer import Layer


def named(layers: Sequence[Layer], name: str, call: int = 0, which: int = 0) -> Layer:
    """The layer of that name.

    Args:
        layers: of a report.
        name: the path of a module.
        call: which of its calls.
        which: which of the tensors that the call returned.

    Raises:
        KeyError: no layer has that name, the name has fewer calls, or the call fewer tensors.
    """
    calls = _calls(layers, name)
    if not calls:
        raise KeyError(f"no layer is named {name!r}; {_known(layers)}")
    if not -len(calls) <= call < len(calls):
        raise KeyError(f"layer {name!r} has {len(calls)} calls; call {call} was asked for")
    tensors = calls[call]
    if not -len(tensors) <= which < len(tensors):
        ops = ", ".join(layer.op for layer in tensors)
        raise KeyError(
            f"layer {name!r} has {len(tensors)} tensors in call {call} ({ops}); "
            f"tensor {which} was asked for"
        )
    return tensors[which]


def _calls(layers: Sequence[Layer], name: str) -> list[list[Layer]]:
    """The layers that have this name, those that one call returned together."""
    found = [layer for layer in layers if name in layer.names]
    calls: list[list[Layer]] = []
    for layer in [x for x in found if x.is_output or name in x.also] or found:
        path = layer.op.removeprefix(layer.type)
        is_part = layer.name == name and path.startswith(("[", "."))
        if calls and is_part and layer.op not in [before.op for before in calls[-1]]:
            calls[-1].append(layer)
        else:
            calls.append([layer])
    return calls


def _known(layers: Sequence[Layer], most: int = 10) -> str:
    names = list(dict.fromkeys(repr(layer.name) for layer in layers))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"the names are {', '.join(names[:most])}{more}" if names else "the report is empty"


class Pattern(NamedTuple):
    """Layers by the path of a module, by a type, by depth; None fits all. As :mod:`fnmatch`."""

    name: str | None
    type: str | None
    depth: int | None

    def checked(self) -> Pattern:
        """The same; raises TypeError where a part of it is of no kind that it may be."""
        for argument, given in (("name", self.name), ("type", self.type)):
            if given is not None and not isinstance(given, str):
                raise TypeError(f"select: {argument} is {kind_of(given)}; expected a pattern")
        if self.depth is not None and not isinstance(self.depth, int):
            raise TypeError(f"select: depth is {kind_of(self.depth)}; expected a whole number")
        return self

    def nothing_fits(self, layers: Sequence[Layer]) -> str:
        """A sentence for a report of which no layer fits."""
        asked = ", ".join(f"{k}={v!r}" for k, v in self._asdict().items() if v is not None)
        return f"No layer fits select({asked}); {_known(layers)}."

    def fits(self, names: Sequence[str], types: Sequence[str]) -> bool:
        """Whether one of the names fits, one of the types, and the depth of the shortest."""
        return (
            (self.name is None or any(fnmatchcase(n, self.name) for n in names))
            and (self.type is None or any(fnmatchcase(t, self.type) for t in types))
            and (self.depth is None or min(map(_depth, names)) <= self.depth)
        )


def _depth(name: str) -> int:
    return name.count(".") + 1 if name else 0
