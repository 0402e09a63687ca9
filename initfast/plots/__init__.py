"""Pictures of how a signal goes through a net; they need matplotlib, `initfast[plots]`.

    initfast.plots.by_depth(report)                     # what report.plot() draws
    initfast.plots.compare([before, after])             # several reports over the same axes
    initfast.plots.histograms(report)                   # where each layer's values lie
    initfast.plots.activation("sigmoid")                # a function, its slope, where it saturates
    initfast.plots.phase_diagram("tanh", net)           # order and chaos, and the layers of a net
    initfast.plots.random_product()                     # how a product of random matrices grows
    initfast.plots.save(figure, "signal.svg")           # SVG, PDF or PNG, text as text

Each returns matplotlib's figure, which notebooks show; with ``ax=`` it draws there. The colours are
ones that the colour-blind can tell apart, curves have dashes too, and ``dark=True`` is for dark
pages.
"""

from __future__ import annotations

from initfast.plots.activations import activation
from initfast.plots.depth import by_depth, compare, signals
from initfast.plots.histograms_by_layer import histograms
from initfast.plots.phase_diagrams import phase_diagram
from initfast.plots.random_products import random_product
from initfast.plots.style import save

__all__ = [
    "activation",
    "by_depth",
    "compare",
    "histograms",
    "phase_diagram",
    "random_product",
    "save",
    "signals",
]
