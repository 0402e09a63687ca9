"""The table of a report: aligned columns, long runs of similar layers folded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from initfast.stats.layer import Layer, Skipped
from initfast.stats.text import WIDTH, escape, number, share, shorten

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
    Column("layer", lambda x: x.name, 9, text=True),
    Column("op", lambda x: shorten(x.op, 24), 8, text=True),
    Column("shape", lambda x: "x".join(map(str, x.shape)) or "scalar", 3, text=True),
    Column("mean", lambda x: number(x.mean), 5),
    Column("std", lambda x: number(x.std), 9),
    Column("min", lambda x: number(_finite(x, x.min)), 1),
    Column("max", lambda x: number(_finite(x, x.max)), 2),
    Column("gain", lambda x: number(x.gain), 6),
    Column("grad rms", lambda x: number(_grad_rms(x)), 6, shown=lambda x: x.grad is not None),
    Column("zero", lambda x: share(x.zeros), 4, shown=lambda x: x.zeros > 0),
    Column("saturated", lambda x: share(x.saturated), 7, shown=lambda x: x.saturated > 0),
    Column("dead", lambda x: _count(x.dead_units), 7, shown=lambda x: bool(x.dead_units)),
    Column("non-finite", lambda x: share(x.nonfinite), 8, shown=lambda x: x.nonfinite > 0),
)


def _cell(column: Column, layer: Layer | None) -> str:
    return "" if layer is None else column.cell(layer)


class Fold(NamedTuple):
    """Layers start to stop, which repeat the layers before them with this period."""

    start: int
    stop: int
    period: int


class Table:
    """Lines and columns of a report, ready to be set as text or HTML.

    Args:
        layers: the layers, in the order in which they are shown; None for a line of its own name.
        names: what stands in the first column, if not the layers' names.
    """

    def __init__(self, layers: Sequence[Layer | None], names: Sequence[str] | None = None) -> None:
        names = names or [layer.name if layer else "" for layer in layers]
        self._layers = layers
        self._lines = fold(layers, names)
        shown = [i for i in self._lines if isinstance(i, int)]
        present = [layer for layer in layers if layer is not None]
        self._columns = [c for c in COLUMNS if any(map(c.shown, present))]
        self._cells = {c: [_cell(c, layers[i]) for i in shown] for c in self._columns}
        self._cells[COLUMNS[0]] = [shorten(names[i] or "(net)", 32) for i in shown]
        while self._width() > WIDTH:
            self._columns.remove(min(self._columns, key=lambda c: c.rank))

    def _widths(self) -> list[int]:
        return [max(map(len, (c.heading, *self._cells[c]))) for c in self._columns]

    def _width(self) -> int:
        return sum(self._widths()) + 2 * (len(self._columns) - 1)

    def _texts(self) -> list[list[str] | str]:
        """The cells of each line; for a fold one sentence."""
        cells = iter(zip(*(self._cells[c] for c in self._columns), strict=True))
        return [list(next(cells)) if isinstance(i, int) else self._sentence(i) for i in self._lines]

    def _sentence(self, fold: Fold) -> str:
        folded = [layer for layer in self._layers[fold.start : fold.stop] if layer is not None]
        stds = [layer.std for layer in folded if math.isfinite(layer.std)]
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

        lines = [text[:WIDTH] if isinstance(text, str) else line(text) for text in self._texts()]
        return "\n".join([line([c.heading for c in self._columns]), "-" * self._width(), *lines])

    def html(self) -> str:
        """An HTML table."""
        head = "".join(f"<th>{escape(c.heading)}</th>" for c in self._columns)
        body = []
        for text in self._texts():
            if isinstance(text, str):
                cells = f'<td colspan="{len(self._columns)}">{escape(text)}</td>'
            else:
                cells = "".join(f"<td>{escape(cell)}</td>" for cell in text)
            body.append(f"<tr>{cells}</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def fold(layers: Sequence[Layer | None], names: Sequence[str]) -> list[int | Fold]:
    """Which layers to show, by index, and which to fold because blocks of layers repeat.

    Layers are alike where they differ only in the numbers of their names and in what was measured.
    Of a run, the first layers or the first block are shown, and the last. The first layer with a
    non-finite value is always shown.
    """
    kinds: list[object] = [
        (re.sub(r"\d+", "#", name), layer and (layer.op, layer.input_shape, layer.shape))
        for name, layer in zip(names, layers, strict=True)
    ]
    special = next((i for i, layer in enumerate(layers) if layer and layer.has_nonfinite), -1)
    lines: list[int | Fold] = []
    start = 0
    while start < len(layers):
        period, head, tail, stop = _run(kinds, start)
        lines += range(start, head)
        for a, b in _without(special, head, tail):
            lines += [Fold(a, b, period)] if b - a > 2 else range(a, b)
        lines += range(tail, stop)
        start = stop
    return lines


def _run(kinds: Sequence[object], start: int) -> tuple[int, int, int, int]:
    """The shortest block that repeats from start, long enough to fold.

    Returns its period, the end of the layers shown first, the start of those shown last, the end.
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


def remarks(notes: Sequence[str], skipped: Sequence[Skipped]) -> list[str]:
    """What stands below the table of a report."""
    if not skipped:
        return list(notes)
    first, more = skipped[0], f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return [*notes, f"Not measured: {first.op} at {first.name!r} ({first.reason}){more}."]
