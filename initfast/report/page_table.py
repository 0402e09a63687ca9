"""The page's table of all layers, one row for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from initfast.report.columns import COLUMNS, Column, Row, with_predicted
from initfast.stats.layer import Layer
from initfast.stats.text import escape, number, shorten

if TYPE_CHECKING:
    from initfast.prediction.prediction import PredictedLayer

MOST_CHARACTERS = 200
"""Of a name; the whole of it is in the report's JSON."""


def layer_table(
    layers: Sequence[Layer],
    beside: Sequence[Layer] | None = None,
    predicted: Sequence[PredictedLayer] = (),
) -> str:
    """The layers as an HTML table; row i can be linked to as #layer-i.

    Args:
        layers: in execution order.
        beside: the layers of another report: two columns compare the layers of the same name, op
            and call, and rows at the end show what it alone has.
        predicted: what theory expects of the layers.
    """
    known = {id(x.layer): x for x in predicted}
    rows = [_row(layer, known) for layer in (*layers, *(beside or ()))]
    needed = [column for column in COLUMNS if column.is_needed(rows)]
    columns = with_predicted(needed, rows)
    headings = [("#", False), ("layer", True), *((c.heading, c.text) for c in columns)]
    headings += [] if beside is None else [("std beside", False), ("std / beside", False)]
    head = "".join(
        f'<th scope="col"{"" if text else " class=number"}>{escape(name)}'
        for name, text in headings
    )
    body = "".join(_rows(layers, columns, beside, known))
    return f'<table id="layers"><thead><tr>{head}</thead><tbody>{body}</tbody></table>'


def name_html(name: str) -> str:
    """The name of a module, in its own direction of writing and on one line."""
    return f"<bdi>{escape(shorten(name, MOST_CHARACTERS)) or '(net)'}</bdi>"


def _rows(
    layers: Sequence[Layer],
    columns: Sequence[Column],
    beside: Sequence[Layer] | None,
    known: Mapping[int, PredictedLayer],
) -> Iterator[str]:
    others = _by_call(beside or ())
    for place, (call, layer) in enumerate(_by_call(layers).items()):
        other = others.pop(call, None)
        compared = "" if beside is None else _compared(layer, other)
        bad = " class=nonfinite" if layer.has_nonfinite else ""
        yield (
            f'<tr id="layer-{place}"{bad}><td>{place}<th scope="row">{name_html(layer.name)}'
            f"{_cells(_row(layer, known), columns)}{compared}"
        )
    for layer in others.values():
        gap = "<td>" * len(columns)
        yield f'<tr><td><th scope="row">{name_html(layer.name)}{gap}<td>{number(layer.std)}<td>'


def _by_call(layers: Sequence[Layer]) -> dict[tuple[str, str, int], Layer]:
    """The layers by name, op and which call of these it is."""
    calls: defaultdict[tuple[str, str], int] = defaultdict(int)
    found = {}
    for layer in layers:
        key = layer.name, layer.op
        found[(*key, calls[key])] = layer
        calls[key] += 1
    return found


def _cells(row: Row, columns: Sequence[Column]) -> str:
    texts = (shorten(column.text_of(row), MOST_CHARACTERS) for column in columns)
    return "".join(f"<td>{escape(text)}" for text in texts)


def _row(layer: Layer, known: Mapping[int, PredictedLayer]) -> Row:
    return Row(layer.name, layer, layer.post, known.get(id(layer)))


def _compared(layer: Layer, other: Layer | None) -> str:
    if other is None:
        return "<td><td>"
    ratio = number(layer.std / other.std) if other.std > 0 else ""
    return f"<td>{number(other.std)}<td>{ratio}"
