"""The plane of weights and biases: order, chaos, the critical line, and where a net stands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from initfast.init.fans import fan_in_and_fan_out
from initfast.plots.style import drawn_on, legend, plain, theme
from initfast.stats.moments import Moments
from initfast.theory.elementwise import Activation, elementwise
from initfast.theory.phase_diagrams import PhaseDiagram
from initfast.theory.phase_diagrams import phase_diagram as computed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)


def phase_diagram(
    f: Activation, net: nn.Module | None = None, *, ax: Axes | None = None, dark: bool = False
) -> Figure:
    """The ordered and the chaotic phase of deep nets, and the line between, where they can learn.

    Colours show chi, by how much a layer multiplies a gradient's square: below 1 it vanishes with
    depth, above 1 it explodes.

    Args:
        f: the activation, as :func:`initfast.theory.gain` takes it.
        net: a net whose linear layers and convolutions are points of the plane.
        ax: matplotlib's axes to draw on; those of a new figure where None.
        dark: light lines on dark paper.

    Returns:
        The figure.

    Raises:
        ArgumentError: what :func:`initfast.theory.phase_diagram` raises.
        ImportError: matplotlib is not installed.

    Source:
        Poole et al. 2016, fig. 1; Schoenholz et al. 2017, fig. 1.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
        >>> axes = initfast.plots.phase_diagram("tanh", net).axes[0]
        >>> axes.get_legend_handles_labels()[1]
        ['critical line', '2 layers']
    """
    with theme(dark):
        points = [] if net is None else list(_points(net))
        plane = _plane(f, points)
        figure, ax = drawn_on(ax, 4.2)
        logs = np.log10(np.clip(plane.chi.numpy(), 1e-9, None))
        most = max(0.1, min(1.0, float(np.nanmax(np.abs(logs), initial=0.1))))
        w, b = plane.sigma_w.numpy(), plane.sigma_b.numpy()
        mesh = ax.pcolormesh(
            w, b, logs, cmap="PuOr", vmin=-most, vmax=most, shading="gouraud", rasterized=True
        )
        figure.colorbar(mesh, ax=ax, label="log10 of chi, a gradient's square by layer")
        ax.plot(plane.critical.numpy(), b, color="k", linewidth=2, label="critical line")
        if points:
            label = f"{len(points)} layers" if len(points) > 1 else "1 layer"
            ax.plot(*zip(*points, strict=True), "ko", markerfacecolor="w", label=label)
        ax.set(xlabel="sigma_w, √fan_in × std of the weights", ylabel="sigma_b, rms of the biases")
        ax.set(xlim=(w[0], w[-1]), ylim=(b[0], b[-1]))
        title = f"{elementwise(f).name}: ordered on the left, chaotic on the right"
        ax.set_title(plain(title), loc="left", fontsize=10, pad=24)
        legend(ax)
    return figure


def _plane(f: Activation, points: list[tuple[float, float]]) -> PhaseDiagram:
    """The diagram over the usual range, wide enough for the points."""
    if not points:
        return computed(f)
    w, b = ([point[i] for point in points] for i in (0, 1))
    rows = np.linspace(0.0, max(0.5, 1.1 * max(b)), 21).tolist()
    line = [x for x in computed(f, [1.0], rows).critical.tolist() if math.isfinite(x)]
    low, high = 0.9 * min([*w, *line]), 1.1 * max([*w, *line])
    return computed(f, np.linspace(low, high, 25).tolist(), rows)


def _points(net: nn.Module) -> Iterator[tuple[float, float]]:
    """sigma_w and sigma_b of each linear layer and convolution whose parameters are finite."""
    for module in net.modules():
        if not isinstance(module, _WEIGHTED):
            continue
        transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
        weight, bias = module.weight.detach(), module.bias
        groups = getattr(module, "groups", 1)
        fan_in, _ = fan_in_and_fan_out(weight, groups, transposed)
        sigma_w = math.sqrt(fan_in * Moments.of(weight).var) if weight.numel() > 1 else math.nan
        sigma_b = 0.0 if bias is None else Moments.of(bias.detach().to(torch.float64)).rms
        if math.isfinite(sigma_w) and math.isfinite(sigma_b):
            yield sigma_w, sigma_b
