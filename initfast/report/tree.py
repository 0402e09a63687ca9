"""The layers of a report below the modules that contain them."""

from __future__ import annotations

from collections.abc import Sequence

from initfast.stats.layer import Layer


class _Node:
    """A module: the layers whose output is its own, and the modules in it."""

    def __init__(self) -> None:
        self.layers: list[Layer | None] = []
        self.children: dict[str, _Node] = {}

    def at(self, path: str) -> _Node:
        """The module of that path."""
        node = self
        for name in path.split(".") if path else ():
            node = node.children.setdefault(name, _Node())
        return node


def tree_lines(layers: Sequence[Layer]) -> tuple[list[Layer | None], list[str]]:
    """The lines of a table that shows the layers as a tree: each module, then what is in it.

    Returns:
        For each line its layer, or None for a module without an output of its own, and its name,
        indented.
    """
    root = _Node()
    for layer in layers:
        for name in layer.names:
            root.at(name).layers.append(layer)
    lines: list[Layer | None] = []
    names: list[str] = []

    def show(node: _Node, name: str, depth: int) -> None:
        if node is not root or node.layers:
            lines.extend(node.layers or [None])
            names.extend(["  " * depth + name] * (len(node.layers) or 1))
        for child_name, child in node.children.items():
            show(child, child_name, depth if node is root else depth + 1)

    show(root, "", 0)
    return lines, names
