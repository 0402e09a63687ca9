"""The signal by depth: of one report, of several, or of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from initfast.errors import ArgumentError
from initfast.plots.series import Curve, Drawn, Panel, named, nonfinite, panels, range_ends, serious
from initfast.plots.style import legend, new_figure, plain, styles, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHTS = {"log": 3.4}
_LOW_PANEL = 1.4
_MARKERS = 60
"""Nets of more layers have lines alone."""


def by_depth(report: Drawn, *, ax: Axes | None = None, dark: bool = False) -> Figure:
    """The rms of every layer's output, of its gradient and of the prediction, on a log scale.

    The prediction is theory's, from the net's input, in the band that holds 99 % of nets with such
    weights; where the band is wider than a factor of 10, nothing is predicted. Ends of the ranges
    of float16, bfloat16, e4m3 and e5m2 are lines where the signal comes near them. Findings are
    shaded and named, layers with NaN or infinity crossed. Correlations, and the shares of
    saturated values and dead units, have panels of their own.

    Args:
        report: what :func:`initfast.profile` returned.
        ax: matplotlib's axes to draw the first panel on; a new figure has all of them.
        dark: light lines on dark paper.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> report = initfast.profile(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.ones(2, 4))
        >>> [axes.get_ylabel() for axes in initfast.plots.by_depth(report).axes]
        ['rms', 'correlation']
    """
    figure = _drawn(panels(report), len(report.layers), ax, dark)
    with theme(dark):
        for i, axes in enumerate([ax] if ax is not None else figure.axes):
            _mark(axes, report, with_names=i == 0)
    return figure


def compare(
    reports: Sequence[Drawn],
    labels: Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    dark: bool = False,
) -> Figure:
    """Several reports over the same axes: initialisers, seeds, before and after a repair.

    Args:
        reports: one at least; of nets of any depths.
        labels: a name for each; their numbers from 1 on where None.
        ax: matplotlib's axes for the rms of the outputs; a new figure has all panels.
        dark: light lines on dark paper.

    Returns:
        The figure.

    Raises:
        ArgumentError: there is no report, or not one label for each.
        ImportError: matplotlib is not installed.

    Example:
        >>> reports = [initfast.profile(nn.Linear(4, 4), torch.ones(2, 4)) for _ in range(2)]
        >>> figure = initfast.plots.compare(reports, labels=["seed 0", "seed 1"])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['seed 0', 'seed 1']
    """
    labels = [str(i + 1) for i in range(len(reports))] if labels is None else labels
    if not reports or len(labels) != len(reports):
        raise ArgumentError(
            f"{len(reports)} reports and {len(labels)} labels; expected a label for each, and one "
            "report at least"
        )
    together: dict[str, Panel] = {}
    for i, report in enumerate(reports):
        for panel in panels(report, with_prediction=False):
            for curve in panel.curves:
                title = f"{curve.name}, {panel.title}" if panel.scale == "log" else curve.name
                empty = [Curve(label, ()) for label in labels]  # each keeps its colour
                known = together.setdefault(title, Panel(title, empty, panel.scale))
                known.curves[i] = Curve(labels[i], curve.values)
    depth = max(len(report.layers) for report in reports)
    return _drawn(list(together.values()), depth, ax, dark)


def signals(
    stds: Mapping[str, Sequence[float]], *, ax: Axes | None = None, dark: bool = False
) -> Figure:
    """Standard deviations by depth on a log scale, as the classic experiments measure them.

    Args:
        stds: for each curve, by its name, one number a layer; nets may end early.
        ax: matplotlib's axes to draw on; those of a new figure where None.
        dark: light lines on dark paper.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> initfast.plots.signals({"halved": [1.0, 0.5, 0.25]}).axes[0].get_yscale()
        'log'
    """
    curves = [
        Curve(name, tuple(v if v > 0 and math.isfinite(v) else None for v in values))
        for name, values in stds.items()
    ]
    depth = max(map(len, stds.values()), default=0)
    return _drawn([Panel("std", curves, "log")], depth, ax, dark, ranges=False)


def _drawn(
    drawn: Sequence[Panel], depth: int, ax: Axes | None, dark: bool, ranges: bool = True
) -> Figure:
    with theme(dark):
        if ax is not None:
            figure, every = ax.figure.figure, [ax]
        else:
            figure, every = new_figure([_HEIGHTS.get(str(p.scale), _LOW_PANEL) for p in drawn])
        for axes, panel in zip(every, drawn, strict=False):
            _draw(axes, panel, depth)
            limits = panel.limits()
            if ranges and panel.scale == "log" and limits is not None:
                _draw_range_ends(axes, limits)
        every[-1].set_xlabel("layer")
    return figure


def _draw(axes: Axes, panel: Panel, depth: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylabel(panel.title)
    axes.set_xlim(-0.5, max(depth, 1) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    limits = panel.limits()
    if panel.scale == "log":
        axes.set_yscale("log")
    if limits is None:
        text = "no layer has a finite value above 0"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center")
        return
    axes.set_ylim(*limits)
    marker = "o" if depth <= _MARKERS else ""
    for curve, (colour, dashes) in zip(panel.curves, styles(len(panel.curves)), strict=True):
        if not curve.values:
            continue
        places: Sequence[int] = range(len(curve.values))
        values = [math.nan if v is None else v for v in curve.values]
        if curve.band:  # across the layers of which theory says nothing
            places, values = map(list, zip(*curve.points(), strict=True))
            low, high = zip(*curve.band, strict=True)
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            places,
            values,
            color=colour,
            linestyle=dashes,
            marker=marker,
            markersize=3.5,
            label=plain(curve.name),
        )
    legend(axes)


def _draw_range_ends(axes: Axes, limits: tuple[float, float]) -> None:
    ends = range_ends(*limits)
    for name, end in ends:
        axes.axhline(end, color="0.5", linestyle=(0, (1, 3)), linewidth=1)
        axes.annotate(
            name,
            (1, end),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
            **_legible(axes),
        )
    values = [*limits, *(end for _, end in ends)]
    axes.set_ylim(min(values), max(values))


def _legible(axes: Axes) -> dict[str, Any]:
    """For texts over curves: on a patch of the background's colour."""
    patch = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "alpha": 0.6, "pad": 0.8}
    return {"bbox": patch, "zorder": 5}


def _mark(axes: Axes, report: Drawn, with_names: bool) -> None:
    """Shade the findings, and cross the layers with NaN or infinity."""
    (_, _), (colour, _) = styles(2)
    for finding in serious(report.findings):
        axes.axvspan(finding.first - 0.5, finding.last + 0.5, color=colour, alpha=0.1, linewidth=0)
    for i, finding in enumerate(named(report.findings) if with_names else ()):
        left = finding.first + finding.last < len(report.layers)
        axes.annotate(
            plain(finding.rule.replace("_", " ")),
            (finding.first if left else finding.last, 0.94 - 0.07 * i),
            xycoords=("data", "axes fraction"),
            ha="left" if left else "right",
            fontsize=9,
            fontstyle="italic",
            **_legible(axes),
        )
    bad = nonfinite(report.layers)
    if bad:
        at = axes.get_xaxis_transform()  # across in layers, up in the height of the axes
        height = [0.98] * len(bad)
        axes.plot(bad, height, "x", transform=at, color=colour, label="NaN or infinity")
        legend(axes)
