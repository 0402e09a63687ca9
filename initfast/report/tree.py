"""The layers of a report below the modules that contain them."""

from __future__ import annotations

from collections.abc import Sequence

from initfast.stats.layer import Layer


class _Node:
    """A module: the layers whose output is its own, their names there, and the modules in it."""

    def __init__(self) -> None:
        self.layers: list[Layer | None] = []
        self.names: list[str] = []
        self.children: dict[str, _Node] = {}

    def at(self, path: str) -> _Node:
        """The module of that path."""
        node = self
        for name in path.split(".") if path else ():
            node = node.children.setdefault(name, _Node())
        return node

    def add(self, layer: Layer, name: str) -> None:
        """Add a layer whose name is that."""
        self.layers.append(layer)
        self.names.append(name)


def tree_lines(layers: Sequence[Layer]) -> tuple[list[Layer | None], list[str]]:
    """The lines of a table that shows the layers as a tree: each module, then what is in it.

    A layer that ran several modules as one, as a linear layer and its activation, is one line with
    the names of both: "0 + 1".

    Returns:
        For each line its layer, or None for a module without an output of its own, and its name,
        indented.
    """
    parents = {name[:i] for layer in layers for name in layer.names for i in _ends(name)}
    root = _Node()
    for layer in layers:
        fused = [name for name in layer.also if name not in parents]
        root.at(layer.name).add(layer, " + ".join([_last(layer.name), *_beside(layer.name, fused)]))
        for name in layer.also:
            if name in parents:
                root.at(name).add(layer, _last(name))
    lines: list[Layer | None] = []
    names: list[str] = []

    def show(node: _Node, name: str, depth: int) -> None:
        if node is not root or node.layers:
            lines.extend(node.layers or [None])
            names.extend("  " * depth + own for own in node.names or [name])
        for child_name, child in node.children.items():
            show(child, child_name, depth if node is root else depth + 1)

    show(root, "", 0)
    return lines, names


def _ends(name: str) -> list[int]:
    """Where the paths of the modules that contain a module end; the net's own is empty."""
    return [0, *(i for i, letter in enumerate(name) if letter == ".")] if name else []


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _beside(name: str, others: Sequence[str]) -> list[str]:
    """The others' names as they are read beside this one: short where they are in one module."""
    parent = name.rpartition(".")[0]
    return [_last(other) if other.rpartition(".")[0] == parent else other for other in others]
