"""Functions on [-1, 1] as Legendre series of 24 terms, known by their values at 24 nodes."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre

from initfast.theory.elementwise import Array

NODES = 24
POINTS, WEIGHTS = legendre.leggauss(NODES)
"""Of Gauss-Legendre quadrature."""

_VALUES = legendre.legvander(POINTS, NODES - 1)  # of each polynomial, at each node
_SERIES = (np.arange(NODES) + 0.5)[:, None] * _VALUES.T * WEIGHTS  # coefficients, of values
_BARYCENTRIC = (-1.0) ** np.arange(NODES) * np.sqrt((1 - POINTS**2) * WEIGHTS)
_OTHERS = 1 - np.eye(NODES)
_APART = POINTS[:, None] - POINTS + np.eye(NODES)
_SLOPES = _BARYCENTRIC / _BARYCENTRIC[:, None] / _APART * _OTHERS
_SLOPES = (_SLOPES - np.diag(_SLOPES.sum(axis=1))).T  # so that those of a constant are 0


def last_terms(y: Array) -> Array:
    """The largest of the last three coefficients, of values at the nodes, one row a series."""
    return np.abs(y @ _SERIES[-3:].T).max(axis=1)


def slopes(y: Array) -> Array:
    """The derivative at the nodes, of values there."""
    return y @ _SLOPES


def at(y: Array, t: Array) -> Array:
    """The series at other points, so many a row, of values at the nodes.

    The barycentric formula, good beyond the ends too (Trefethen 2013, "Approximation Theory and
    Approximation Practice", ch. 5).
    """
    share = _BARYCENTRIC / (t[:, :, None] - POINTS)
    return (share @ y[:, :, None])[:, :, 0] / share.sum(axis=2)
