"""What the classic experiments return: the figures, and how they print.

A printed result is at most 100 columns wide: its title, an aligned table, what it shows, and who
showed it first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_SHOWN_LAYERS = (1, 2, 3, 4, 10, 30, 100)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment measured; ``print`` shows it.

    Attributes:
        title: what was done.
        lesson: what it shows, with the figures measured.
        source: who showed it first, or where the figure it is compared with stands.
    """

    title: str
    lesson: str
    source: str

    def _rows(self) -> list[list[str]]:
        raise NotImplementedError

    def __str__(self) -> str:
        notes = [f"  {self.lesson}", f"  {self.source}"]
        return "\n".join([self.title, *_align(self._rows()), *notes])


@dataclass(frozen=True, kw_only=True)
class Signal(Result):
    """The standard deviation of the signal after each layer of a deep net.

    Attributes:
        stds: for each way of drawing the weights, by its name, one std a layer, up to the
            first layer with a non-finite value.
        predicted: one std a layer, of the first of ``stds``, at infinite width.
        first_nonfinite: the path of the module that made the first non-finite value, or None.
    """

    stds: Mapping[str, tuple[float, ...]]
    predicted: tuple[float, ...]
    first_nonfinite: str | None = None

    def _rows(self) -> list[list[str]]:
        last = min(len(stds) for stds in self.stds.values())
        shown = [*(layer for layer in _SHOWN_LAYERS if layer < last), last]
        rows = [["layer", *map(str, shown)]]
        for name, stds in (*self.stds.items(), ("predicted", self.predicted)):
            rows.append([name, *(_number(stds[layer - 1]) for layer in shown)])
        return rows


@dataclass(frozen=True, kw_only=True)
class NumericGain(Result):
    """The gain of an activation on normal inputs, std in over std out.

    Attributes:
        measured: on the sample.
        exact: the expectation.
        table: what ``torch.nn.init.calculate_gain`` says.
    """

    measured: float
    exact: float
    table: float

    def _rows(self) -> list[list[str]]:
        names = ("measured", "expected", "calculate_gain")
        gains = (self.measured, self.exact, self.table)
        return [[name, f"{value:.4f}"] for name, value in zip(names, gains, strict=True)]


@dataclass(frozen=True, kw_only=True)
class MatrixProduct(Result):
    """How a product of random matrices grows.

    Attributes:
        rate: the mean growth of the logarithm of its first column's length, a factor.
        error: the standard error of rate.
        predicted: the top Lyapunov exponent.
        draw: the product in one draw.
    """

    rate: float
    error: float
    predicted: float
    draw: tuple[tuple[float, ...], ...]

    def _rows(self) -> list[list[str]]:
        labels = ["one draw", *[""] * (len(self.draw) - 1)]
        return [
            [label, *(f"{value:.3e}" for value in row)]
            for label, row in zip(labels, self.draw, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Result):
    """The sigmoid and its derivative.

    Attributes:
        x: the inputs, ascending.
        value: the sigmoid at each.
        slope: its derivative at each, by autograd.
    """

    x: tuple[float, ...]
    value: tuple[float, ...]
    slope: tuple[float, ...]

    def _rows(self) -> list[list[str]]:
        # Every second integer and the last point, which is short of the end of the interval.
        shown = [*range(0, len(self.x), 20), len(self.x) - 1]
        return [
            [name, *(format(values[i], spec) for i in shown)]
            for name, values, spec in (
                ("x", self.x, ".1f"),
                ("sigmoid", self.value, ".4f"),
                ("derivative", self.slope, ".4f"),
            )
        ]


def _number(value: float) -> str:
    """Four significant digits, trailing zeros too, so that the figures of a row compare."""
    if not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}"
    return f"{value:.{3 - math.floor(math.log10(abs(value)))}f}"


def _align(rows: list[list[str]]) -> list[str]:
    """Rows of equal length: the first cell to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"    {row[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
