"""What an activation makes of a signal."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from initfast.ops.activations import ACTIVATIONS
from initfast.prediction.signal import Bent, Signal, new_parts
from initfast.stats.layer import Layer
from initfast.theory.elementwise import Array, Elementwise
from initfast.theory.hermite import correlated, correlated_slope, hermite_squares
from initfast.theory.mesh import Mesh
from initfast.theory.quadrature import Expectations


@cache
def activation_mesh(name: str, alpha: float | None, beta: float | None) -> Mesh:
    """Of an activation of ours with these numbers."""
    act = ACTIVATIONS[name]
    numbers = act.defaults if alpha is None else (alpha, beta or 0.0)
    return Mesh(Elementwise(name, lambda z: act.value(z, *numbers)))


def mesh_of(layer: Layer) -> Mesh | None:
    """Of the activation that a layer ends in, or is; None without one."""
    name = layer.op.rpartition(" + ")[2]
    return activation_mesh(name, layer.alpha, layer.beta) if name in ACTIVATIONS else None


class _Nodes:
    """A function of a variable of a signal's law, at nodes.

    The law is normal but for its third and fourth cumulants (Gram & Charlier: the density times
    1 + skew/6 He_3 + kurtosis/24 He_4).
    """

    def __init__(self, x: Signal, mesh: Mesh) -> None:
        at = Expectations(mesh, x.mean, math.sqrt(x.var))
        z = self.z = at.z.ravel()
        self.y, self.normal = at.y.ravel(), at.weight.ravel()
        third, fourth = z**3 - 3 * z, z**4 - 6 * z**2 + 3
        # Beyond these the series is no density.
        skew, kurtosis = min(max(x.skew, -2.0), 2.0), min(max(x.kurtosis, -1.5), 6.0)
        self.weight = self.normal * (1 + skew / 6 * third + kurtosis / 24 * fourth)

    def of(self, values: Array) -> float:
        """The mean of what has these values at the nodes."""
        return float(self.weight @ values)


def activated(x: Signal, mesh: Mesh, units: int, count: int) -> Signal:
    """The signal that an activation makes.

    Args:
        x: its input.
        mesh: of the activation.
        units: in a row.
        count: of all elements.
    """
    if not x.var > 0:
        y = float(mesh.f(np.array([x.mean]))[0])
        return Signal(y, 0.0, common=1.0, rows=x.rows)
    nodes = _Nodes(x, mesh)
    mean, square = nodes.of(nodes.y), nodes.of(nodes.y**2)
    var = max(square - mean**2, 0.0)
    if not (math.isfinite(square) and square > 0):
        return Signal(mean, var, common=1.0, rows=x.rows)
    centred = nodes.y - mean
    third, fourth = nodes.of(centred**3), nodes.of(centred**4)
    slope = nodes.of(nodes.z * nodes.y)  # Bussgang: the part of y that goes with x
    kept = slope / math.sqrt(x.var) if slope**2 <= var else 0.0
    parts = {name: kept * part for name, part in x.parts.items()}
    own = max(var - sum(part**2 for part in parts.values()), 0.0)
    alike, spread, correlation = _pairs(x, nodes, square)
    common = (mean**2 + alike * var) / square
    return Signal(
        mean,
        var,
        third / var**1.5 if var else 0.0,
        max(fourth / var**2 - 3, -2.0) if var else 0.0,
        common,
        spread,
        _chance(x, nodes, square, units, count),
        x.rows,
        parts | new_parts(own),
        bent=Bent(mesh, x.mean, math.sqrt(x.var), correlation, x.settled),
    )


def _correlation(x: Signal) -> float:
    """Of two rows' deviations from the mean."""
    return min(max((x.common * x.square - x.mean**2) / x.var, 0.0), 1.0)


def _pairs(x: Signal, nodes: _Nodes, square: float) -> tuple[float, float, float]:
    """The correlation of the result at two rows, its spread, and the correlation of its input."""
    c = _correlation(x)
    squares = hermite_squares(nodes.z, nodes.normal, nodes.y)
    squares[0] = 0.0
    steep = correlated_slope(squares, c) / square * x.square / x.var
    total = sum(squares)
    alike = min(correlated(squares, c) / total, 1.0) if total > 0 else 1.0
    return alike, steep**2 * x.spread, c


def _chance(x: Signal, nodes: _Nodes, square: float, units: int, count: int) -> float:
    """The variance of ln q of the result.

    Of one row of n units the activation's squares g vary by (kappa - 1) / n about q, of which the
    part that goes with the mean square of the input is in its own chance already, times the
    elasticity's square. Of two rows of correlation c, what varies together are the Hermite
    coefficients a_k of g: sum of a_k² c^k. A norm leaves no chance to the first two.
    """
    g, normal, z = nodes.y**2 / square, nodes.normal, nodes.z
    a = hermite_squares(z, normal, g)
    ratio = x.mean / math.sqrt(x.var)
    first, second = float(normal @ (z * g)), float(normal @ ((z * z - 1) * g))
    elasticity = (second + ratio * first) / 2
    c = _correlation(x)
    twice, _ = x.pairs(count, units)
    a[0] = a[2] = 0.0
    if x.settled:
        a[1] = 0.0
    own = twice * sum(a) + (1 - twice) * correlated(a, c)
    return elasticity**2 * x.chance + own / max(units, 1)
