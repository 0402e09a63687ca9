"""Where the values of each layer's output lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from initfast.errors import ArgumentError
from initfast.plots.series import Drawn
from initfast.plots.style import drawn_on, legend, plain, styles, theme
from initfast.stats.layer import Layer
from initfast.stats.text import number, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 10
"""So many curves can be told apart."""

_ORDERS = 30.0
"""Highest densities that differ by more are drawn on a log scale."""

_REACH, _MARGIN = 4.0, 1.1
"""How far the axis goes: in root mean squares of the widest layer, or in its largest magnitude."""

_NARROWEST = 1 / 16
"""Bins that end nearer to zero, in root mean squares, are drawn as one: they hold few numbers."""


def histograms(report: Drawn, *, ax: Axes | None = None, dark: bool = False) -> Figure:
    """The density of the values of each layer's output, from its histogram of 64 bins.

    Of more than ten layers ten are drawn, evenly spaced, the first and the last among them;
    ``report.select(...)`` chooses others. Saturated layers have their peaks at the ends, and layers
    whose signal vanishes at zero.

    Args:
        report: what :func:`initfast.profile` returned, with ``measure="histograms"``.
        ax: matplotlib's axes to draw on; those of a new figure where None.
        dark: light lines on dark paper.

    Returns:
        The figure.

    Raises:
        ArgumentError: no layer has a histogram.
        ImportError: matplotlib is not installed.

    Source:
        Glorot & Bengio 2010, fig. 6: the distribution of activations by layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.Tanh())
        >>> report = initfast.profile(net, 9 * torch.randn(32, 64), measure="histograms")
        >>> axes = initfast.plots.histograms(report).axes[0]
        >>> axes.get_legend().get_texts()[0].get_text()
        '0 (linear + tanh): mean ..., std ..., saturated ...%'
    """
    layers = [layer for layer in report.layers if layer.histogram and layer.histogram.total]
    if not layers:
        raise ArgumentError(
            "histograms: no layer of the report has a histogram; expected one of profile(net, x, "
            'measure="histograms")'
        )
    drawn = _evenly(layers)
    with theme(dark):
        figure, ax = drawn_on(ax, 3.6 + 0.2 * len(drawn))
        highest: list[float] = []
        reach = 0.0
        for layer, (colour, dashes) in zip(drawn, styles(len(drawn)), strict=True):
            edges, densities = _steps(layer)
            highest.append(max(densities))
            words = _words(layer)
            ax.stairs(densities, edges, color=colour, linestyle=dashes, label=words)
            reach = max(reach, min(_REACH * layer.rms, _MARGIN * edges[-1]))
        if max(highest) > _ORDERS * min(highest):
            ax.set_yscale("log")
        ax.set_xlim(-(reach or 1.0), reach or 1.0)
        some = "" if len(drawn) == len(layers) else f", {_MOST} of {len(layers)} layers"
        ax.set_xlabel(f"value{some}")
        ax.set_ylabel("density")
        legend(ax)
    return figure


def _evenly(layers: list[Layer]) -> list[Layer]:
    """So many of the layers, at most, with the first and the last."""
    if len(layers) <= _MOST:
        return layers
    return [layers[round(i * (len(layers) - 1) / (_MOST - 1))] for i in range(_MOST)]


def _steps(layer: Layer) -> tuple[list[float], list[float]]:
    """The ends of the bins that are drawn of a layer, and the densities between them."""
    assert layer.histogram is not None
    edges, densities = layer.histogram.edges, layer.histogram.densities
    least = _NARROWEST * layer.rms
    last = next(i for i, end in enumerate(edges) if end > -least or i == len(edges) // 2 - 1)
    first = len(edges) - 1 - last
    inner = zip(edges[last:first], edges[last + 1 : first + 1], densities[last:first], strict=True)
    part = sum((high - low) * density for low, high, density in inner)
    middle = part / (edges[first] - edges[last])
    return edges[: last + 1] + edges[first:], [*densities[:last], middle, *densities[first:]]


def _words(layer: Layer) -> str:
    """What the legend says of a layer."""
    facts = [f"mean {number(layer.mean)}", f"std {number(layer.std)}"]
    facts += [f"saturated {share(layer.saturated)}"] if layer.saturated else []
    name = plain(f"{layer.name or '(net)'} ({layer.op})")
    return f"{name}: {', '.join(facts)}"
