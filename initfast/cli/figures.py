"""``python -m initfast --plot DIR``: a figure of each classic experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from initfast.experiments.results import MatrixProduct, NumericGain, Result, Sigmoid, Signal
from initfast.plots import activation, random_product, save, signals

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figure(result: Result, seed: int, path: Path) -> None:
    """Draw what an experiment showed.

    Args:
        result: what it returned.
        seed: of its draws.
        path: of the file.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    figure = _figure(result, seed)
    figure.suptitle(result.title, x=0.01, ha="left", fontsize=10)
    save(figure, path)


def _figure(result: Result, seed: int) -> Figure:
    if isinstance(result, Signal):
        return signals({**result.stds, "predicted": result.predicted})
    if isinstance(result, MatrixProduct):
        return random_product(seed)
    if isinstance(result, Sigmoid):
        return activation("sigmoid")
    if isinstance(result, NumericGain):
        figure = activation("tanh")
        gains = f"gain: {result.measured:.4f} measured, {result.exact:.4f} exactly"
        figure.axes[0].annotate(gains, (0.02, 0.9), xycoords="axes fraction")
        return figure
    raise TypeError(f"no figure shows a {type(result).__name__}")
