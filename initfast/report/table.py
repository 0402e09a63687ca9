"""The table of a report: aligned columns, long runs of similar layers folded."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from initfast.stats.layer import Layer
from initfast.stats.text import WIDTH, number, share, shorten

MAX_PERIOD = 32
"""The longest block of layers whose repetition is looked for."""


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def _grad_rms(layer: Layer) -> float | None:
    """Unlike the std, not zero for a gradient that is the same everywhere, as a mean's is."""
    return None if layer.grad is None else layer.grad.rms


def _finite(layer: Layer, value: float) -> float | None:
    """A statistic of the finite values, where there are any."""
    return value if layer.post.finite else None


class Column(NamedTuple):
    """One column: its heading, what stands in it, whether it is text, and when it may go.

    Columns of a lower rank are dropped first where the table is too wide; a column is left out
    where `shown` holds for no layer.
    """

    heading: str
    cell: Callable[[Layer], str]
    rank: int
    text: bool = False
    shown: Callable[[Layer], bool] = lambda layer: True


COLUMNS = (
    Column("layer", lambda row: row.name, 9, text=True),
    Column("op", lambda row: shorten(row.op, 24), 8, text=True),
    Column("shape", lambda row: "x".join(map(str, row.shape)) or "scalar", 3, text=True),
    Column("mean", lambda row: number(row.mean), 5),
    Column("std", lambda row: number(row.std), 9),
    Column("min", lambda row: number(_finite(row, row.min)), 1),
    Column("max", lambda row: number(_finite(row, row.max)), 2),
    Column("gain", lambda row: number(row.gain), 6),
    Column(
        "grad rms", lambda row: number(_grad_rms(row)), 6, shown=lambda row: row.grad is not None
    ),
    Column("zero", lambda row: share(row.zeros), 4, shown=lambda row: row.zeros > 0),
    Column("saturated", lambda row: share(row.saturated), 7, shown=lambda row: row.saturated > 0),
    Column("dead", lambda row: _count(row.dead_units), 7, shown=lambda row: bool(row.dead_units)),
    Column("non-finite", lambda row: share(row.nonfinite), 8, shown=lambda row: row.nonfinite > 0),
)


def _cell(column: Column, layer: Layer | None) -> str:
    return "" if layer is None else column.cell(layer)


class Fold(NamedTuple):
    """Layers start to stop, which repeat the layers before them with this period."""

    start: int
    stop: int
    period: int


class Table:
    """Rows and columns of a report, ready to be set as text or HTML.

    Args:
        layers: the layers, in the order in which they are shown; None for a line of its own name.
        names: what stands in the first column, if not the layers' names.
    """

    def __init__(self, layers: Sequence[Layer | None], names: Sequence[str] | None = None) -> None:
        names = names or [row.name if row else "" for row in layers]
        self._layers = layers
        self._rows = fold(layers, names)
        shown = [row for row in self._rows if isinstance(row, int)]
        present = [layer for layer in layers if layer is not None]
        self._columns = [c for c in COLUMNS if any(map(c.shown, present))]
        self._cells = {c: [_cell(c, layers[row]) for row in shown] for c in self._columns}
        self._cells[COLUMNS[0]] = [shorten(names[row] or "(net)", 32) for row in shown]
        while self._width() > WIDTH:
            self._columns.remove(min(self._columns, key=lambda c: c.rank))

    def _widths(self) -> list[int]:
        return [max(map(len, (c.heading, *self._cells[c]))) for c in self._columns]

    def _width(self) -> int:
        return sum(self._widths()) + 2 * (len(self._columns) - 1)

    def _lines(self) -> list[list[str] | str]:
        """The cells of each row; for a fold one sentence."""
        cells = iter(zip(*(self._cells[c] for c in self._columns), strict=True))
        return [list(next(cells)) if isinstance(r, int) else self._sentence(r) for r in self._rows]

    def _sentence(self, fold: Fold) -> str:
        rows = self._layers[fold.start : fold.stop]
        stds = [row.std for row in rows if row is not None and math.isfinite(row.std)]
        count = fold.stop - fold.start
        what = "like these" if fold.period == 1 else f"in blocks of {fold.period} like these"
        scale = f", std {number(min(stds))} to {number(max(stds))}" if stds else ""
        return f"... {count} more {what}{scale}"

    def text(self) -> str:
        """At most 100 columns wide."""
        if not self._layers:
            return "no layers"
        widths = self._widths()

        def line(cells: Sequence[str]) -> str:
            aligned = [
                cell.ljust(width) if column.text else cell.rjust(width)
                for cell, width, column in zip(cells, widths, self._columns, strict=True)
            ]
            return "  ".join(aligned).rstrip()

        rows = [row[:WIDTH] if isinstance(row, str) else line(row) for row in self._lines()]
        return "\n".join([line([c.heading for c in self._columns]), "-" * self._width(), *rows])

    def html(self) -> str:
        """An HTML table."""
        head = "".join(f"<th>{html.escape(c.heading)}</th>" for c in self._columns)
        body = []
        for row in self._lines():
            if isinstance(row, str):
                cells = f'<td colspan="{len(self._columns)}">{html.escape(row)}</td>'
            else:
                cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            body.append(f"<tr>{cells}</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def fold(layers: Sequence[Layer | None], names: Sequence[str]) -> list[int | Fold]:
    """Which layers to show, by index, and which to fold because blocks of layers repeat.

    Layers are alike where they differ only in the numbers of their names and in what was measured.
    Of a run, the first rows or the first block are shown, and the last. The first layer with a
    non-finite value is always shown.
    """
    kinds: list[object] = [
        (re.sub(r"\d+", "#", name), row and (row.op, row.input_shape, row.shape))
        for name, row in zip(names, layers, strict=True)
    ]
    special = next((i for i, row in enumerate(layers) if row and row.has_nonfinite), -1)
    rows: list[int | Fold] = []
    start = 0
    while start < len(layers):
        period, head, tail, stop = _run(kinds, start)
        rows += range(start, head)
        for a, b in _without(special, head, tail):
            rows += [Fold(a, b, period)] if b - a > 2 else range(a, b)
        rows += range(tail, stop)
        start = stop
    return rows


def _run(kinds: Sequence[object], start: int) -> tuple[int, int, int, int]:
    """The shortest block that repeats from start, long enough to fold.

    Returns its period, the end of the rows shown first, the start of those shown last, the end.
    """
    for period in range(1, MAX_PERIOD + 1):
        stop = start + period
        while stop < len(kinds) and kinds[stop] == kinds[stop - period]:
            stop += 1
        stop -= (stop - start) % period
        head, tail = start + max(1, 3 // period) * period, stop - period
        if tail - head > 2:
            return period, head, tail, stop
    return 1, start + 1, start + 1, start + 1


def _without(index: int, start: int, stop: int) -> list[tuple[int, int]]:
    """The range start to stop, cut so that index is a range of its own."""
    if not start <= index < stop:
        return [(start, stop)]
    return [(start, index), (index, index + 1), (index + 1, stop)]


# ---- the tree ----


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


def tree_rows(layers: Sequence[Layer]) -> tuple[list[Layer | None], list[str]]:
    """The lines of the layers as a tree: each module, then what is in it.

    Returns:
        For each line its layer, or None for a module without an output of its own, and its name,
        indented.
    """
    root = _Node()
    for layer in layers:
        for name in layer.names:
            root.at(name).layers.append(layer)
    rows: list[Layer | None] = []
    names: list[str] = []

    def show(node: _Node, name: str, depth: int) -> None:
        if node is not root or node.layers:
            rows.extend(node.layers or [None])
            names.extend(["  " * depth + name] * (len(node.layers) or 1))
        for child_name, child in node.children.items():
            show(child, child_name, depth if node is root else depth + 1)

    show(root, "", 0)
    return rows, names
