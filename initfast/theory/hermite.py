"""What passes of two correlated normal variables through a function: its Hermite coefficients.

With orthonormal Hermite polynomials h_k and standard normal u and v of correlation c,
E f(u) f(v) is the sum of a_k² c^k, a_k = E f(z) h_k(z) (Mehler's formula; Daniely et al. 2016,
sec. 4, on dual activations). The first coefficients tell a smooth function well; what is left of E
f² goes with the next power.
"""

from __future__ import annotations

import math

from initfast.theory.elementwise import Array

ORDER = 8
"""Of the first coefficient that is not computed."""


def hermite_squares(z: Array, weight: Array, y: Array) -> list[float]:
    """The squares of the first :data:`ORDER` coefficients, and what is left of E y² after them.

    Args:
        z: nodes of a standard normal variable.
        weight: the probability that each stands for.
        y: the function there.

    Example:
        >>> import numpy as np
        >>> z, w = np.polynomial.hermite_e.hermegauss(20)
        >>> [round(a, 9) for a in hermite_squares(z, w / w.sum(), z**2 - 1)][:4]
        [0.0, 0.0, 2.0, 0.0]
    """
    last, now = z * 0, z * 0 + 1
    mass = weight * y
    squares = []
    for k in range(ORDER):
        squares.append(float((mass * now).sum()) ** 2)
        last, now = now, (z * now - math.sqrt(k) * last) / math.sqrt(k + 1)
    return [*squares, max(float((mass * y).sum()) - sum(squares), 0.0)]


def correlated(squares: list[float], c: float) -> float:
    """E f(u) f(v) of a correlation c."""
    return sum(a * c**k for k, a in enumerate(squares))


def correlated_slope(squares: list[float], c: float) -> float:
    """Its derivative by c; of what is left only as much as one more coefficient has."""
    return sum(k * a * c ** (k - 1) for k, a in enumerate(squares) if k)
