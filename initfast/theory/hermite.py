"""What passes of two correlated normal variables through a function: its Hermite coefficients.

With orthonormal Hermite polynomials h_k and standard normal u and v of correlation c,
E f(u) f(v) is the sum of a_k² c^k, a_k = E f(z) h_k(z) (Mehler's formula; Daniely et al. 2016,
sec. 4, on dual activations). The first coefficients tell a smooth function well; what is left of E
f² goes with the next power.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.polynomial import hermite_e

from initfast.theory.elementwise import Array

ORDER = 8
"""Of the first coefficient that is not computed."""


def _monomials() -> Array:
    """The coefficients of the first :data:`ORDER` orthonormal polynomials, one a row."""
    rows = [hermite_e.herme2poly(row) for row in np.eye(ORDER)]
    lengths = [math.sqrt(math.factorial(k)) for k in range(ORDER)]
    return np.array([np.pad(row, (0, ORDER - row.size)) for row in rows]) / np.c_[lengths]


MONOMIALS = _monomials()
"""Row k times 1, z, z² and so on is the orthonormal Hermite polynomial h_k of z."""


def hermite_squares(z: Array, weight: Array, y: Array) -> list[float]:
    """The squares of the first :data:`ORDER` coefficients, and what is left of E y² after them.

    Args:
        z: nodes of a standard normal variable.
        weight: the probability that each stands for.
        y: the function there.

    Example:
        >>> z, w = np.polynomial.hermite_e.hermegauss(20)
        >>> [round(a, 9) for a in hermite_squares(z, w / w.sum(), z**2 - 1)][:4]
        [0.0, 0.0, 2.0, 0.0]
    """
    mass = weight * y
    coefficients = MONOMIALS @ (np.vander(z, ORDER, True).T @ mass)
    return squares_of(coefficients.tolist(), float(mass @ y))


def squares_of(coefficients: Iterable[float], total: float) -> list[float]:
    """The coefficients' squares, and what is left of the total, E y², after them."""
    squares = [a * a for a in coefficients]
    return [*squares, max(total - sum(squares), 0.0)]


def correlated(squares: list[float], c: float) -> float:
    """E f(u) f(v) of a correlation c."""
    return sum(a * c**k for k, a in enumerate(squares))


def correlated_slope(squares: list[float], c: float) -> float:
    """Its derivative by c; of what is left only as much as one more coefficient has."""
    return sum(k * a * c ** (k - 1) for k, a in enumerate(squares) if k)
