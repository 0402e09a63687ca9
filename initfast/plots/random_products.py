"""How a product of random matrices grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from initfast.plots.style import drawn_on, legend, styles, theme
from initfast.theory.random_products import growth_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FACTORS, _WIDTH, _DRAWS = 100, 4, 20


def random_product(seed: int = 0, *, ax: Axes | None = None, dark: bool = False) -> Figure:
    """The length of the first column of a product of random 4 x 4 matrices, factor by factor.

    Twenty draws stand beside the Lyapunov rate, which they follow more closely the longer they are.

    Args:
        seed: of the matrices.
        ax: matplotlib's axes to draw on; those of a new figure where None.
        dark: light lines on dark paper.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is not installed.

    Source:
        Newman 1986; see :func:`initfast.theory.random_products.growth_rate`.

    Example:
        >>> len(initfast.plots.random_product().axes[0].lines)  # twenty draws and the rate
        21
    """
    generator = torch.Generator().manual_seed(seed)
    column = torch.eye(_WIDTH, dtype=torch.float64)[:, :1].expand(_DRAWS, -1, -1)
    lengths = []
    for _ in range(_FACTORS):
        shape = (_DRAWS, _WIDTH, _WIDTH)
        column = torch.randn(shape, generator=generator, dtype=torch.float64) @ column
        lengths.append(column.norm(dim=(1, 2)))
    factors, rate = np.arange(1, _FACTORS + 1), growth_rate(_WIDTH)
    with theme(dark):
        figure, ax = drawn_on(ax, 3.6)
        (thin, _), (thick, dashes) = styles(2)
        for i, draw in enumerate(torch.stack(lengths).T.numpy()):
            label = f"{_DRAWS} draws" if i == 0 else None
            ax.plot(factors, draw, color=thin, alpha=0.35, linewidth=1, label=label)
        label = f"e^({rate:.3f} n), the Lyapunov rate"
        ax.plot(factors, np.exp(rate * factors), color=thick, linestyle=dashes, lw=2.5, label=label)
        ax.set_yscale("log")
        ax.set_xlim(0, _FACTORS)
        ax.set(xlabel="factors", ylabel="length of the first column")
        legend(ax)
    return figure
