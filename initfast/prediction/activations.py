"""What an activation makes of a signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from initfast.ops.activations import ACTIVATIONS
from initfast.prediction.components import new_component
from initfast.prediction.normal_moments import NormalMoments
from initfast.prediction.signal import Bent, Signal
from initfast.stats.layer import Layer
from initfast.theory.elementwise import Elementwise
from initfast.theory.hermite import correlated, correlated_slope, squares_of
from initfast.theory.mesh import Mesh


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


_LEAST_SPREAD = 1e-14
"""Below this part of their mean, the spread of values is lost in float64's own steps of 2e-16."""


class _Result:
    """The moments of y, an activation of a variable of a signal's law, in units of its `scale`.

    The law is normal but for its third and fourth cumulants (Gram & Charlier: the density times
    1 + skew/6 He_3 + kurtosis/24 He_4).

    Attributes:
        scale: the largest |y|.
        mean, var, third, fourth: of y, the central moments.
        slope: E z y, of the standardised variable z.
        coefficients, squared: E h_k y and E h_k y² of a normal z, h_k the orthonormal Hermite
            polynomials; the first of y is left 0.
        apart, power: the variance of y and E y⁴ of a normal z.
    """

    def __init__(self, x: Signal, mesh: Mesh) -> None:
        found = NormalMoments.of(mesh, x.mean, math.sqrt(x.var))
        self.scale, middle = found.scale, found.centre / found.scale
        one, two, three, four = found.of_powers
        self._under_law(x, found.of_powers, middle)
        self.apart = two[0] - one[0] ** 2
        self.squared = [b + 2 * middle * a for a, b in zip(one, two, strict=True)]
        self.squared[0] += middle**2
        odd = 4 * middle * three[0] + 4 * middle**3 * one[0]
        self.power = four[0] + odd + 6 * middle**2 * two[0] + middle**4
        self.coefficients = [0.0, *one[1:]]

    def _under_law(self, x: Signal, found: Sequence[Sequence[float]], middle: float) -> None:
        """The moments under the signal's own law."""
        # Beyond these the series is no density.
        skew = min(max(x.skew, -2.0), 2.0) / math.sqrt(6)
        kurtosis = min(max(x.kurtosis, -1.5), 6.0) / math.sqrt(24)
        off, m2, m3, m4 = (a[0] + skew * a[3] + kurtosis * a[4] for a in found)
        self.mean = middle + off
        self.var = max(m2 - off**2, 0.0)
        self.third = m3 - 3 * off * m2 + 2 * off**3
        self.fourth = m4 - 4 * off * m3 + 6 * off**2 * m2 - 3 * off**4
        # z h_k = sqrt(k+1) h_(k+1) + sqrt(k) h_(k-1)
        _, c1, c2, c3, c4, c5, *_ = found[0]
        more = skew * (2 * c4 + math.sqrt(3) * c2) + kurtosis * (math.sqrt(5) * c5 + 2 * c3)
        self.slope = c1 + more

    @property
    def square(self) -> float:
        """E y²."""
        return self.mean**2 + self.var


def activated(x: Signal, mesh: Mesh, units: int, count: int) -> Signal:
    """The signal that an activation makes.

    Args:
        x: its input.
        mesh: of the activation.
        units: in a row.
        count: of all elements.
    """
    if not x.var > (_LEAST_SPREAD * x.mean) ** 2:
        value = float(mesh.f(np.array([x.mean]))[0])
        return Signal(value, 0.0, common=1.0, rows=x.rows)
    y = _Result(x, mesh)
    scale, square, var = y.scale, y.square, y.var
    if not square > 0:
        return Signal(y.mean * scale, var * scale**2, common=1.0, rows=x.rows)
    # Bussgang: the part of y that goes with x.
    kept = y.slope * scale / math.sqrt(x.var) if y.slope**2 <= var else 0.0
    follows = x.components.scaled(kept)
    c = _correlation(x)
    alike, steep = _pairs(y, c)
    return Signal(
        y.mean * scale,
        var * scale**2,
        y.third / var**1.5 if var else 0.0,
        max(y.fourth / var**2 - 3, -2.0) if var else 0.0,
        (y.mean**2 + alike * var) / square,
        (steep / square * x.square / x.var) ** 2 * x.spread,
        _chance(x, y, c, units, count),
        x.rows,
        follows.plus(new_component(var * scale**2 - follows.var)),
        bent=Bent(mesh, x.mean, math.sqrt(x.var), c, x.settled),
    )


def _correlation(x: Signal) -> float:
    """Of two rows' deviations from the mean."""
    return min(max((x.common * x.square - x.mean**2) / x.var, 0.0), 1.0)


def _pairs(y: _Result, c: float) -> tuple[float, float]:
    """The correlation of the result at two rows whose inputs have c, and E y y' by c."""
    squares = squares_of(y.coefficients, y.apart)
    total = sum(squares)
    alike = min(correlated(squares, c) / total, 1.0) if total > 0 else 1.0
    return alike, correlated_slope(squares, c)


def _chance(x: Signal, y: _Result, c: float, units: int, count: int) -> float:
    """The variance of ln q of the result.

    Of one row of n units the activation's squares g vary by (kappa - 1) / n about q, of which the
    part that goes with the mean square of the input is in its own chance already, times the
    elasticity's square. Of two rows of correlation c, what varies together are the Hermite
    coefficients a_k of g: sum of a_k² c^k. A norm leaves no chance to the first two, and biases
    none to the first: their mean is known.
    """
    square = y.square
    a = squares_of((g / square for g in y.squared), y.power / square**2)
    ratio = x.mean / math.sqrt(x.var)
    elasticity = (math.sqrt(2) * y.squared[2] + ratio * y.squared[1]) / (2 * square)
    twice, _ = x.pairs(count, units)
    of_mean = 0.0 if x.settled else a[1]
    a[0] = a[1] = a[2] = 0.0
    own = twice * sum(a) + (1 - twice) * correlated(a, c)
    own += of_mean * max(twice + (1 - twice) * c - x.told, 0.0)
    return elasticity**2 * x.chance + own / max(units, 1)
