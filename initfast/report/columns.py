"""The columns of a report's table: what each says of a layer, and when it goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import number, printable, share

if TYPE_CHECKING:
    from initfast.prediction.prediction import Estimate, PredictedLayer

NEGLIGIBLE_MEAN = 1e-6
"""A mean of less than so many standard deviations is rounding, and shown as 0."""


class Row(NamedTuple):
    """What a line is about: a layer; or moments alone, as of the net's input; or a name alone."""

    name: str
    layer: Layer | None = None
    moments: Moments | None = None
    predicted: PredictedLayer | None = None


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def _mean(m: Moments) -> str:
    return number(0.0 if abs(m.mean) < NEGLIGIBLE_MEAN * m.std else m.mean)


def _scale(m: Moments) -> str:
    """The standard deviation; of a single value, as a loss, there is none."""
    return "" if m.count == 1 and math.isnan(m.std) else number(m.std)


def _grad_rms(layer: Layer) -> float | None:
    """Unlike the std, not zero for a gradient that is the same everywhere, as a mean's is."""
    return None if layer.grad is None else layer.grad.rms


def _expected(x: PredictedLayer) -> Estimate | None:
    """From the net's input, where theory leaves less than a factor of 10 to chance."""
    return x.cumulative if x.cumulative is not None and x.cumulative.is_sharp else None


class Column(NamedTuple):
    """One column: its heading, what stands in it, and when it may go.

    Columns of a lower rank are dropped first where the table is too wide; a column is left out
    where `shown` holds for no row. Both functions take what `of` names of a row: its moments, its
    layer, or what is predicted of it.
    """

    heading: str
    cell: Callable[[Any], str]
    rank: int
    shown: Callable[[Any], bool] = lambda value: True
    of: Literal["moments", "layer", "predicted"] = "moments"
    text: bool = False

    def value(self, row: Row) -> Any:
        """What its functions take; None where the cell is empty."""
        return getattr(row, self.of)

    def text_of(self, row: Row) -> str:
        """What stands in the row."""
        value = self.value(row)
        return "" if value is None else printable(self.cell(value))

    def is_needed(self, rows: Iterable[Row]) -> bool:
        """Whether it says something of one of the rows."""
        return any((value := self.value(row)) is not None and self.shown(value) for row in rows)


NEVER_DROPPED = 9
COLUMNS = (
    Column("op", lambda x: x.op, NEVER_DROPPED, of="layer", text=True),
    Column("shape", lambda x: "x".join(map(str, x.shape)) or "scalar", 3, of="layer", text=True),
    Column("mean", _mean, 5),
    Column("std", _scale, NEVER_DROPPED),
    Column("min", lambda m: number(m.min) if m.finite else "", 1),
    Column("max", lambda m: number(m.max) if m.finite else "", 2),
    Column("gain", lambda x: number(x.gain), 6, of="layer"),
    Column("grad rms", lambda x: number(_grad_rms(x)), 6, lambda x: x.grad is not None, "layer"),
    Column("zero", lambda m: share(m.zeros), 4, lambda m: m.zeros > 0),
    Column("saturated", lambda x: share(x.saturated), 7, lambda x: x.saturated > 0, "layer"),
    Column("dead", lambda x: _count(x.dead_units), 7, lambda x: bool(x.dead_units), "layer"),
    Column("non-finite", lambda m: share(m.nonfinite_share), 8, lambda m: m.nonfinite > 0),
)
PREDICTED = (
    Column("rms", lambda x: number(x.rms), 0, lambda x: _expected(x) is not None, "predicted"),
    Column(
        "predicted",
        lambda x: "" if (expected := _expected(x)) is None else number(expected.rms),
        0,
        lambda x: _expected(x) is not None,
        "predicted",
    ),
)
"""What theory expects beside what was measured: shown where there is room for both."""


def with_predicted(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns of :data:`PREDICTED` that are needed, after the std, among the others."""
    after = next((i for i, c in enumerate(columns) if c.heading == "std"), -1) + 1
    return [*columns[:after], *(c for c in PREDICTED if c.is_needed(rows)), *columns[after:]]
