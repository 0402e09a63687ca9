"""The table of a report: aligned columns, as wide as the terminal, with every name in full."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from textwrap import wrap
from typing import TYPE_CHECKING

import torch

from initfast.report.columns import COLUMNS, NEVER_DROPPED, PREDICTED, Column, Row, with_predicted
from initfast.report.folding import Fold, fold
from initfast.stats.layer import Layer, Skipped
from initfast.stats.moments import Moments
from initfast.stats.text import escape, number, printable, text_width

if TYPE_CHECKING:
    from initfast.prediction.prediction import PredictedLayer

_LEAST_ROOM = sum(2 + len(c.heading) for c in PREDICTED)


class Table:
    """Lines and columns of a report, ready to be set as text or HTML.

    Args:
        layers: the layers, in the order in which they are shown; None for a line of its own name.
        names: what stands in the first column, if not the layers' names.
        inputs: the moments of the net's inputs, which stand first.
        loss: the value of the loss, which stands last.
        width: how many columns of text there are; None: those of standard output.
        predict: gives what is predicted of the layers, to show where there is room.
    """

    def __init__(
        self,
        layers: Sequence[Layer | None],
        names: Sequence[str] | None = None,
        inputs: Sequence[Moments] = (),
        loss: float | None = None,
        width: int | None = None,
        predict: Callable[[], Iterable[PredictedLayer]] | None = None,
    ) -> None:
        names = names or [layer.name if layer else "" for layer in layers]
        self._layers, self._names = layers, names
        self._width = text_width() if width is None else width
        self._predict = predict
        rows = [
            Row(name or "(net)", layer, None if layer is None else layer.post)
            for name, layer in zip(names, layers, strict=True)
        ]
        several = len(inputs) > 1
        before = [
            Row(f"(input {i})" if several else "(input)", moments=moments)
            for i, moments in enumerate(inputs)
        ]
        after = [] if loss is None else [Row("(loss)", moments=_single(loss))]
        lines = [rows[i] if isinstance(i, int) else i for i in fold(layers, names)]
        self._lines: list[Row | Fold] = [*before, *lines, *after]
        self._columns = [c for c in COLUMNS if c.is_needed([*before, *rows, *after])]

    def _sentence(self, fold: Fold) -> str:
        count = f"... {fold.stop - fold.start} more"
        if not fold.period:
            last = self._names[fold.stop - 1].strip() or "(net)"
            return f"{count} with NaN or infinities, to {last}"
        folded = [layer for layer in self._layers[fold.start : fold.stop] if layer is not None]
        stds = [layer.std for layer in folded if math.isfinite(layer.std)]
        what = "like these" if fold.period == 1 else f"in blocks of {fold.period} like these"
        scale = f", std {number(min(stds))} to {number(max(stds))}" if stds else ""
        return f"{count} {what}{scale}"

    def text(self) -> str:
        """As wide as standard output; a name that is too long for its column has its own line."""
        if not self._layers:
            return "no layers"
        lines = self._all_lines()
        table = _Text(_rows(lines), self._columns, self._width)
        if self._predict is not None and table.room >= _LEAST_ROOM:
            known = {id(x.layer): x for x in self._predict()}
            told = [
                x if isinstance(x, str) else x._replace(predicted=known.get(id(x.layer)))
                for x in lines
            ]
            columns = with_predicted(self._columns, _rows(told))
            wider = _Text(_rows(told), columns, self._width)
            if wider.is_whole:
                lines, table = told, wider
        return "\n".join(table.lines(lines))

    def _all_lines(self) -> list[Row | str]:
        return [self._sentence(line) if isinstance(line, Fold) else line for line in self._lines]

    def html(self) -> str:
        """An HTML table."""
        headings = ["layer", *(c.heading for c in self._columns)]
        head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
        body = []
        for line in self._all_lines():
            if isinstance(line, str):
                cells = f'<td colspan="{len(headings)}">{escape(line)}</td>'
            else:
                texts = [line.name, *(c.text_of(line) for c in self._columns)]
                cells = "".join(f"<td>{escape(printable(text))}</td>" for text in texts)
            body.append(f"<tr>{cells}</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _rows(lines: Iterable[Row | str]) -> list[Row]:
    return [line for line in lines if isinstance(line, Row)]


class _Text:
    """Rows as text: the columns that fit, their widths, and what all names begin with."""

    def __init__(self, rows: Sequence[Row], columns: Sequence[Column], width: int) -> None:
        self._width = width
        self._columns = list(columns)
        longest = width // 2 - 2
        layers = [printable(row.name) for row in rows if row.layer is not None]
        long = 2 * sum(len(name) > longest for name in layers) > len(layers)
        self._prefix = _common_path(layers) if long else ""
        names = [self._name(row) for row in rows]
        self._name_width = _widest(["layer", *names], longest)
        self._cells = {c: [c.text_of(row) for row in rows] for c in columns}
        limits = {c: width // 4 if c.text else width for c in columns}
        self._widths = {c: _widest([c.heading, *self._cells[c]], limits[c]) for c in columns}
        self._dropped: list[Column] = []
        while self._total() > width and min(c.rank for c in self._columns) < NEVER_DROPPED:
            self._dropped.append(min(self._columns, key=lambda c: c.rank))
            self._columns.remove(self._dropped[-1])

    @property
    def room(self) -> int:
        """How many columns of text are left."""
        return self._width - self._total()

    @property
    def is_whole(self) -> bool:
        """Whether all its columns have room."""
        return not self._dropped and self.room >= 0

    def _total(self) -> int:
        return self._name_width + sum(2 + self._widths[c] for c in self._columns)

    def _name(self, row: Row) -> str:
        name = printable(row.name)
        return name.removeprefix(self._prefix) if row.layer is not None else name

    def lines(self, lines: Iterable[Row | str]) -> Iterable[str]:
        """The table's."""
        if self._prefix:
            yield from wrap(f"All names begin with {self._prefix}", self._width)
        yield self._line("layer", [c.heading for c in self._columns])
        yield "-" * self._total()
        for line in lines:
            yield from wrap(line, self._width) if isinstance(line, str) else self._row(line)
        if self._dropped:
            names = ", ".join(c.heading for c in COLUMNS if c in self._dropped)
            left_out = f"Columns left out for want of width: {names}; to_dataframe() has them."
            yield from wrap(left_out, self._width)

    def _row(self, row: Row) -> Iterable[str]:
        name, cells = self._name(row), [c.text_of(row) for c in self._columns]
        too_long = [
            c.text and len(cell) > self._widths[c]
            for c, cell in zip(self._columns, cells, strict=True)
        ]
        if len(name) <= self._name_width and not any(too_long):
            return [self._line(name, cells)]
        indent = " " * (len(name) - len(name.lstrip()))
        long = [cell for cell, above in zip(cells, too_long, strict=True) if above]
        rest = ["" if above else cell for cell, above in zip(cells, too_long, strict=True)]
        head, further = "  ".join([name.strip(), *long]), f"{indent}    "
        above = wrap(head, self._width, initial_indent=indent, subsequent_indent=further)
        return [*above, self._line("", rest)]

    def _line(self, name: str, cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(self._widths[c]) if c.text else cell.rjust(self._widths[c])
            for cell, c in zip(cells, self._columns, strict=True)
        ]
        return "  ".join([name.ljust(self._name_width), *aligned]).rstrip()


def _widest(texts: Iterable[str], most: int) -> int:
    """The length of the longest text that is not too long."""
    return max(length for text in texts if (length := len(text)) <= most)


def _common_path(names: Sequence[str]) -> str:
    """The path of modules that all these are in, with its dot; "" where there is none."""
    first, last = (name.split(".")[:-1] for name in (min(names), max(names)))
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(f"{name}." for name, _ in shared)


def _single(value: float) -> Moments:
    """The moments of one number."""
    return Moments.of(torch.tensor(value, dtype=torch.float64))


def remarks(notes: Sequence[str], skipped: Sequence[Skipped]) -> list[str]:
    """What stands below the table of a report."""
    if not skipped:
        return list(notes)
    first, more = skipped[0], f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return [*notes, f"Not measured: {first.op} at {first.name!r} ({first.reason}){more}."]
