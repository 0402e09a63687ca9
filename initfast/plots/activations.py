"""An activation, its slope, and where it saturates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from initfast.ops.activations import ACTIVATIONS, SATURATED_SLOPE
from initfast.plots.style import drawn_on, legend, plain, styles, theme
from initfast.theory.elementwise import Activation, Array, Elementwise, elementwise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STEP = 2.0**-17
"""Between the points of a central difference: errors of float64 and of the cubic term balance."""


def activation(f: Activation, *, ax: Axes | None = None, dark: bool = False) -> Figure:
    """A function and its derivative over [-8, 8), saturated ends shaded.

    Args:
        f: a name in :data:`initfast.ops.activations.ACTIVATIONS`, an elementwise module, or a
            function of a float64 tensor.
        ax: matplotlib's axes to draw on; those of a new figure where None.
        dark: light lines on dark paper.

    Returns:
        The figure.

    Raises:
        ArgumentError: there is no such activation, or the function is not elementwise.
        ImportError: matplotlib is not installed.

    Source:
        Glorot & Bengio 2010, on saturation: here where the slope is under 6 % of the steepest; of
        the named activations, those that have a plateau other than zero.

    Example:
        >>> axes = initfast.plots.activation("sigmoid").axes[0]
        >>> round(float(max(axes.lines[1].get_ydata())), 6)
        0.25
    """
    found = elementwise(f)
    x = np.arange(-80, 80) / 10.0
    y, slope = found(x), (found(x + _STEP) - found(x - _STEP)) / (2 * _STEP)
    with theme(dark):
        figure, ax = drawn_on(ax, 3.6)
        first, second, (shade, _) = styles(3)
        ax.plot(x, y, color=first[0], linestyle=first[1], label=plain(found.name))
        ax.plot(x, slope, color=second[0], linestyle=second[1], label="its derivative")
        for i, (low, high) in enumerate(_stretches(x, _saturated(found, y, slope))):
            label = "saturated" if i == 0 else None
            ax.axvspan(low, high, color=shade, alpha=0.15, linewidth=0, label=label)
        ax.set_xlim(-8, 8)
        ax.set_xlabel("pre-activation")
        legend(ax)
    return figure


def _saturated(f: Elementwise, y: Array, slope: Array) -> np.ndarray:
    """Which of the points are, by the same line as in a report."""
    act = ACTIVATIONS.get(f.name)
    if act is None:
        steepest = np.nanmax(np.abs(slope), initial=0.0)
        return np.abs(slope) < SATURATED_SLOPE * steepest
    if act.saturated is None:
        return np.zeros(y.shape, bool)
    return act.saturated(torch.from_numpy(y), *act.defaults).numpy()


def _stretches(x: Array, holds: np.ndarray) -> Iterator[tuple[float, float]]:
    """The intervals at whose points something holds."""
    half = (x[1] - x[0]) / 2
    turns = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(int)))
    for start, stop in zip(turns[::2], turns[1::2], strict=True):
        yield x[start] - half, x[stop - 1] + half
