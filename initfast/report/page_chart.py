"""The curves of a report as SVG: text that is text, dashes beside colours, nothing to load."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from initfast.plots.series import Curve, Drawn, Panel, named, nonfinite, panels, range_ends, serious
from initfast.stats.text import escape, number, printable

_WIDTH, _LEFT, _RIGHT = 760, 80, 744  # of the drawing; where its axes begin and end
_HEIGHTS = {"rms": 280}
_LOW_PANEL = 110
_ABOVE, _BELOW = 40, 34  # room for the title and for the numbers of layers
_MARKERS = 60
"""Nets of more layers have lines alone."""
_POINTS = 1000
"""Of a curve with more points, the least and the greatest of each stretch are drawn."""


def chart(report: Drawn, beside: Drawn | None = None) -> str:
    """The panels of a report, one below the other.

    Args:
        report: what is drawn.
        beside: another, drawn over the same axes with its own dashes.

    Returns:
        One SVG element.
    """
    drawn = panels(report)
    others = [] if beside is None else panels(beside, with_prediction=False)
    count = max(len(report.layers), len(beside.layers) if beside else 0)
    top: float = 0
    parts: list[str] = []
    for panel in drawn:
        other = next((p for p in others if p.title == panel.title), None)
        axes = _Axes(_together(panel, other), top, count)
        parts += [*axes.shades(report), *axes.frame(), *axes.curves(panel, 0)]
        parts += axes.curves(other, 1) if other else []
        parts += axes.crosses(nonfinite(report.layers))
        parts += axes.names(report) if axes.log else []
        top = axes.bottom + _BELOW
    words = _in_words(report, drawn)
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {top}" role="img" aria-labelledby="chart-title '
        f'chart-words" data-left="{_LEFT}" data-right="{_RIGHT}" data-count="{count}">'
        '<title id="chart-title">The scale of the signal by depth</title>'
        f'<desc id="chart-words">{words}</desc>'
        f'{"".join(parts)}<line class="cursor" y1="0" y2="{top}" x1="-9" x2="-9"/></svg>'
    )


def _together(panel: Panel, other: Panel | None) -> Panel:
    return panel if other is None else panel._replace(curves=panel.curves + other.curves)


def _in_words(report: Drawn, drawn: Sequence[Panel]) -> str:
    bad = nonfinite(report.layers)
    texts = [f"{len(report.layers)} layers."]
    for curve in (curve for panel in drawn for curve in panel.curves):
        values = [v for v in curve.values if v is not None]
        if values:
            texts.append(f"{curve.name}: from {number(values[0])} to {number(values[-1])}.")
    texts += [f"Non-finite values from layer {bad[0]} on."] if bad else []
    return escape(" ".join(texts))


class _Axes:
    """Where the values of one panel lie on the drawing."""

    def __init__(self, panel: Panel, top: float, count: int) -> None:
        self.panel, self.count = panel, count
        self.log = panel.scale == "log"
        self.limits = panel.limits()
        self.top = top + _ABOVE
        self.bottom = self.top + _HEIGHTS.get(panel.title, _LOW_PANEL)
        self.ends = range_ends(*self.limits) if self.log and self.limits else []
        values = [end for _, end in self.ends] + list(self.limits or ())
        self.low, self.high = (self._on_axis(f(values)) if values else 0.0 for f in (min, max))

    def _on_axis(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def x(self, place: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (place + 0.5) / max(self.count, 1)

    def y(self, value: float) -> float:
        share = (self._on_axis(value) - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)

    def frame(self) -> Iterator[str]:
        scale = ", logarithmic" if self.log else ""
        title = f"{self.panel.title}{scale}, by layer"
        yield _text(_LEFT, self.top - 12, title, "title", "start")
        yield f'<path class="axis" d="M{_LEFT} {self.top}V{self.bottom}H{_RIGHT}"/>'
        if self.limits is None:
            middle = (self.top + self.bottom) / 2
            nothing = "no layer has a finite value above 0"
            yield _text((_LEFT + _RIGHT) / 2, middle, nothing, "tick", "middle")
        else:
            for value in self._ticks():
                y = self.y(value)
                yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>'
                yield _text(_LEFT - 8, y + 4, f"{value:.3g}", "tick", "end")
        for place in range(0, self.count, _round_step(self.count / 8)):
            yield _text(self.x(place), self.bottom + 18, str(place), "tick", "middle")
        for name, end in self.ends:
            y = self.y(end)
            yield f'<path class="range" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>'
            yield _text(_RIGHT, y - 4, name, "range", "end")

    def _ticks(self) -> list[float]:
        if not self.log:
            return [self.low, (self.low + self.high) / 2, self.high]
        step = max(1, math.ceil((self.high - self.low) / 7))
        decades = range(math.ceil(self.low), math.floor(self.high) + 1)
        ticks = [10.0**k for k in decades if k % step == 0]
        if len(ticks) > 2 or step > 1:
            return ticks
        ones = [m * 10.0**k for k in range(decades.start - 1, decades.stop + 1) for m in (1, 2, 5)]
        return [v for v in ones if self.low <= math.log10(v) <= self.high]

    def shades(self, report: Drawn) -> Iterator[str]:
        half = (_RIGHT - _LEFT) / max(self.count, 1) / 2
        for finding in serious(report.findings):
            left, right = self.x(finding.first) - half, self.x(finding.last) + half
            words = f"{finding.severity}: {finding.rule.replace('_', ' ')}"
            words += f", layers {finding.first} to {finding.last}"
            yield (
                f'<rect class="{escape(finding.severity)}" x="{left:.1f}" y="{self.top}" '
                f'width="{max(right - left, 1):.1f}" height="{self.bottom - self.top}">'
                f"<title>{escape(printable(words))}</title></rect>"
            )

    def names(self, report: Drawn) -> Iterator[str]:
        """Of the findings, at their layers, one below the other."""
        for i, finding in enumerate(named(report.findings)):
            at_end = finding.first + finding.last > self.count
            x, anchor = (finding.last, "end") if at_end else (finding.first, "start")
            text = printable(finding.rule.replace("_", " "))
            yield _text(self.x(x), self.top + 30 + 15 * i, text, "finding", anchor)

    def curves(self, panel: Panel, which: int) -> Iterator[str]:
        for i, curve in enumerate(panel.curves):
            style = f"curve c{i} r{which}"
            if curve.band:
                yield self._band(curve, i)
            for piece in [curve.points()] if curve.band else _pieces(curve.values):
                points = [(self.x(place), self.y(value)) for place, value in _thinned(piece)]
                line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
                yield f'<path class="{style}" d="M{line}"/>'
                if self.count <= _MARKERS or len(points) == 1:
                    yield "".join(_marker(x, y, style) for x, y in points)
            yield from self._legend(curve.name, i, which, style)

    def _band(self, curve: Curve, i: int) -> str:
        """From the first layer to the last along its upper end, and back along the lower."""
        known = [
            (place, *ends) for (place, _), ends in zip(curve.points(), curve.band, strict=True)
        ]
        known = [*known[: -1 : math.ceil(len(known) / _POINTS)], known[-1]]
        upper = [(self.x(place), self.y(high)) for place, _, high in known]
        lower = [(self.x(place), self.y(low)) for place, low, _ in reversed(known)]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in upper + lower)
        return f'<path class="band c{i}" d="M{line}Z"/>'

    def _legend(self, name: str, i: int, which: int, style: str) -> Iterator[str]:
        x, y = _LEFT + 230 + 160 * i, self.top - 16 - 16 * which
        yield f'<path class="{style}" d="M{x - 30} {y}h24"/>'
        yield _text(x, y + 4, name + (" (beside)" if which else ""), "legend", "start")

    def crosses(self, places: Sequence[int]) -> Iterator[str]:
        for first, last in _stretches(places):
            y, left, right = self.top + 8, self.x(first), self.x(last)
            layers = f"layer {first}" if first == last else f"layers {first} to {last}"
            cross = f"M{left - 5:.1f} {y - 5}l10 10m-10 0l10 -10"
            yield f'<path class="nonfinite" d="{cross}M{left:.1f} {y}H{right:.1f}">'
            yield f"<title>NaN or infinity in {layers}</title></path>"


def _marker(x: float, y: float, style: str) -> str:
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _text(x: float, y: float, text: str, style: str, anchor: str) -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _pieces(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """The stretches of a curve without gaps."""
    piece: list[tuple[int, float]] = []
    for place, value in enumerate(values):
        if value is not None:
            piece.append((place, value))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _thinned(piece: list[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    size = 2 * math.ceil(len(piece) / _POINTS)
    for start in range(0, len(piece), size):
        stretch = piece[start : start + size]
        ends = (f(stretch, key=lambda point: point[1]) for f in (min, max))
        yield from sorted(set(ends)) if size > 2 else stretch


def _stretches(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places that follow one another, as the first and the last of each stretch."""
    for i, place in enumerate(places):
        if i == 0 or places[i - 1] != place - 1:
            first = place
        if i + 1 == len(places) or places[i + 1] != place + 1:
            yield first, place


def _round_step(least: float) -> int:
    """1, 2 or 5 times a power of ten, the first that is not below the least."""
    power = 10 ** max(0, math.floor(math.log10(max(least, 1))))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least)
