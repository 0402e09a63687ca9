"""What is drawn of a report, as numbers: curves by depth, ranges of dtypes, findings.

The page and the figures of matplotlib draw the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from initfast.prediction.prediction import Estimate, Prediction

from initfast.stats.layer import Layer


class Marked(Protocol):
    """What is shaded: a finding."""

    @property
    def rule(self) -> str:
        """The name of the check."""

    @property
    def severity(self) -> str:
        """ "error", "warning" or "info"."""

    @property
    def first(self) -> int:
        """The place of the first layer."""

    @property
    def last(self) -> int:
        """The place of the last layer."""


class Drawn(Protocol):
    """What is drawn: a report."""

    @property
    def layers(self) -> Sequence[Layer]:
        """In execution order."""

    @property
    def findings(self) -> Sequence[Marked]:
        """What is wrong with them."""

    @property
    def predicted(self) -> Prediction:
        """What theory expects of them."""


class Curve(NamedTuple):
    """One line of a panel.

    Attributes:
        name: what it shows.
        values: one for each layer; None where there is none to draw.
        band: at each layer that has a value, the ends of what is shaded about it; or empty.
    """

    name: str
    values: tuple[float | None, ...]
    band: tuple[tuple[float, float], ...] = ()

    def points(self) -> list[tuple[int, float]]:
        """The layers that have a value, and it."""
        return [(place, value) for place, value in enumerate(self.values) if value is not None]


class Panel(NamedTuple):
    """Curves over the same axes.

    Attributes:
        title: what the vertical axis shows.
        curves: one at least.
        scale: "log", or the least and the greatest value of a linear axis.
    """

    title: str
    curves: list[Curve]
    scale: str | tuple[float, float]

    def limits(self) -> tuple[float, float] | None:
        """The least and the greatest value on the axis, with room; None where nothing is drawn."""
        if not isinstance(self.scale, str):
            return self.scale
        values = [v for curve in self.curves for _, v in curve.points()]
        values += [end for curve in self.curves for ends in curve.band for end in ends]
        if not values:
            return None
        low, high = math.log(min(values)), math.log(max(values))
        room = max(0.05 * (high - low), _LEAST_ROOM - (high - low) / 2)
        return math.exp(max(low - room, _LOG_LEAST)), math.exp(min(high + room, _LOG_MOST))


_LEAST_ROOM = math.log(10.0) / 2  # a signal that holds its scale looks level on an axis of a decade
_LOG_LEAST, _LOG_MOST = math.log(5e-324), math.log(1.7e308)

_NEAR = 16.0
"""Within this factor of the signal an end of a dtype's range is drawn."""

DTYPE_RANGES = (
    ("e4m3's largest, 448", 448.0),
    ("float16's largest, 65504; e5m2's is 57344", 65504.0),
    ("bfloat16's largest, 3.39e38", 3.3895313892515355e38),
    ("e4m3's smallest normal, 2^-6", 2.0**-6),
    ("float16's and e5m2's smallest normal, 2^-14", 2.0**-14),
    ("bfloat16's smallest normal, 2^-126", 2.0**-126),
)
"""The ends of the ranges of narrow dtypes (OCP 8-bit floating point, 2023; IEEE 754; bfloat16)."""


def panels(report: Drawn, with_prediction: bool = True) -> list[Panel]:
    """What is drawn of a report, from the top; a panel that would be empty is left out."""
    layers = report.layers
    scale = [
        Curve("output", _positive(layers, lambda x: x.rms)),
        Curve("gradient", _positive(layers, lambda x: None if x.grad is None else x.grad.rms)),
        *([_predicted(report.predicted)] if with_prediction else []),
    ]
    correlation = [Curve("correlation", _finite(layers, lambda x: getattr(x, "correlation", None)))]
    shares = [
        Curve("saturated", _finite(layers, lambda x: x.saturated)),
        Curve("dead units", _finite(layers, _dead)),
    ]
    return [
        Panel("rms", scale[:1] + _drawn(scale[1:]), "log"),
        *(Panel("correlation", c, (-1.0, 1.0)) for c in [_drawn(correlation)] if c),
        *(Panel("share", c, (0.0, 1.0)) for c in [_drawn(shares, above=0.0)] if c),
    ]


def range_ends(low: float, high: float) -> list[tuple[str, float]]:
    """The ends of dtypes' ranges that a signal between low and high comes near, with names."""
    return [(name, end) for name, end in DTYPE_RANGES if low / _NEAR <= end <= high * _NEAR]


def nonfinite(layers: Sequence[Layer]) -> list[int]:
    """The places of the layers with a NaN or an infinity."""
    return [i for i, layer in enumerate(layers) if layer.has_nonfinite]


def serious(findings: Iterable[Marked]) -> list[Marked]:
    """What is shaded: the errors and warnings."""
    return [finding for finding in findings if finding.severity != "info"]


def named(findings: Iterable[Marked]) -> list[Marked]:
    """What is named in a drawing: the first of each rule, of the four worst rules."""
    firsts: dict[str, Marked] = {}
    for finding in serious(findings):
        firsts.setdefault(finding.rule, finding)
    return list(firsts.values())[:4]


def _predicted(prediction: Prediction) -> Curve:
    """From the net's input, with the band that holds 99 % of nets; not where that is too wide."""
    found = [_drawable(x.cumulative) for x in prediction]
    values = tuple(None if x is None else x.rms for x in found)
    return Curve("predicted", values, tuple(x.band() for x in found if x is not None))


def _drawable(x: Estimate | None) -> Estimate | None:
    return x if x is not None and x.is_sharp and 0 < x.rms < math.inf else None


def _dead(layer: Layer) -> float | None:
    return layer.dead_units / layer.units if layer.units and layer.dead_units is not None else None


def _drawn(curves: Iterable[Curve], above: float = -math.inf) -> list[Curve]:
    return [c for c in curves if any(v is not None and v > above for v in c.values)]


def _finite(
    layers: Sequence[Layer], of: Callable[[Layer], float | None]
) -> tuple[float | None, ...]:
    found = map(of, layers)
    return tuple(v if v is not None and math.isfinite(v) else None for v in found)


def _positive(
    layers: Sequence[Layer], of: Callable[[Layer], float | None]
) -> tuple[float | None, ...]:
    """What an axis of logarithms can show."""
    return tuple(v if v else None for v in _finite(layers, of))
