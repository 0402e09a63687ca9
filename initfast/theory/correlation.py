"""How an activation changes the correlation between two inputs: the correlation map."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.polynomial.legendre import leggauss

from initfast.errors import ArgumentError
from initfast.theory.elementwise import Activation, Array
from initfast.theory.mean_field import checked, variance_map
from initfast.theory.mesh import Mesh, mesh
from initfast.theory.quadrature import Expectations, density

_POINTS, _WEIGHTS = leggauss(16)  # enough for a cell whose series of 24 terms has decayed
_FORGOTTEN = 1e-32  # of the second moment: cells that the product of two values may leave out
_AROUND = np.arange(-10.0, 11.0, 2.0)  # std: about a kink that a normal variable blurs
_ROWS = 256  # at a time, for the memory
_PARALLEL = 1e-8  # √(1 - c²) below which c is 1 to rounding


class Product(NamedTuple):
    """E f(u) f(v) for normal u and v of one variance, and its derivative by their correlation.

    The derivative is NaN where the correlation is 1 or -1.
    """

    mean: float
    slope: float


def correlation_map(
    f: Activation, c: float, q: float = 1.0, sigma_w: float | None = None, sigma_b: float = 0.0
) -> float:
    """The correlation of the next layer's pre-activations of two inputs.

    (sigma_w² E f(u) f(v) + sigma_b²) / (sigma_w² E f(u)² + sigma_b²), u and v normal of variance q
    and correlation c (Poole et al. 2016, the correlation map of two inputs of one length; for ReLU
    Cho & Saul 2009, eq. 6; in general Daniely et al. 2016, the dual activation).

    Args:
        f: as :func:`gain` takes it.
        c: the correlation, from -1 to 1.
        q: the variance of both pre-activations.
        sigma_w: √fan_in times the std of the weights; ``gain(f)`` where None.
        sigma_b: the std of the biases.

    Returns:
        The correlation.

    Raises:
        ArgumentError: c is not within [-1, 1], q not above 0, a sigma negative, the next layer's
            variance 0; and what :func:`gain` raises.

    Example:
        >>> round(initfast.theory.correlation_map("relu", 0.0) * math.pi, 12)
        1.0
    """
    if not -1 <= c <= 1:
        raise ArgumentError(f"c is {c}; expected a correlation from -1 to 1")
    found = mesh(f)
    w, b = checked(found, q, sigma_w, sigma_b)
    if (variance := variance_map(found, q, w, b)) == 0:
        raise ArgumentError(
            f"{found.f.name} at sigma_w {w:g}, sigma_b {b:g} makes 0 of everything; expected a "
            "variance of the next layer, above 0"
        )
    return (w * w * product(found, c, q).mean + b * b) / variance


def product(f: Mesh, c: float, q: float) -> Product:
    """E f(u) f(v), by quadrature over v on every node of u.

    v = c u + √(1 - c²) w, w independent of u. Given u, f(v) is cut where f is; its mean is smooth
    in u but for a blur, √(1 - c²) / c wide, about each kink over c, where u is cut finer. The
    slope follows from Stein's lemma, so f needs no derivative: E f(u) f(v) (z w / s - c (w² - 1) /
    s²), s = √(1 - c²), all in units of √q.
    """
    root = math.sqrt(q)
    s = math.sqrt((1 - c) * (1 + c))
    alone = Expectations(f, 0.0, root)
    share = (alone.weight * alone.y**2).sum(axis=1)
    ends = np.abs(alone.edges)
    ends = np.maximum(ends[1:], ends[:-1])[share > _FORGOTTEN * alone.second]
    radius = float(ends.max(initial=2.0))
    cuts = alone.edges[np.abs(alone.edges) <= radius]
    if s < abs(c) * radius:  # else so wide that it is smooth anyway
        kinks = f.kinks(radius * root) / root
        blurred = ((kinks / c)[:, None] + s / abs(c) * _AROUND).ravel()
        cuts = np.unique(np.concatenate([cuts, blurred[np.abs(blurred) < radius]]))
    half = np.diff(cuts)[:, None] / 2
    z = ((cuts[1:] + cuts[:-1])[:, None] / 2 + half * _POINTS).ravel()
    weight = (half * _WEIGHTS).ravel() * density(z) * f.f(root * z)
    if s < _PARALLEL:
        return Product(float(weight @ f.f(math.copysign(root, c) * z)), math.nan)
    own = f.cells(radius * root).low / root
    mean = slope = 0.0
    for i in range(0, z.size, _ROWS):
        rows = slice(i, i + _ROWS)
        moments = _given(f, c * z[rows], s, root, radius, own)
        mean += float(weight[rows] @ moments[0])
        slope += float(weight[rows] @ (z[rows] * moments[1] / s - c * moments[2] / s**2))
    return Product(mean, slope)


def _given(f: Mesh, mean: Array, s: float, root: float, radius: float, own: Array) -> Array:
    """E f(v), E w f(v) and E (w² - 1) f(v) for v = root (mean + s w), one column a mean."""
    steps = np.linspace(-radius, radius, math.ceil(radius) + 1)
    cuts = ((own - mean[:, None]) / s).clip(-radius, radius)
    cuts = np.sort(np.concatenate([cuts, np.tile(steps, (mean.size, 1))], axis=1), axis=1)
    width = np.diff(cuts, axis=1)
    row, column = np.nonzero(width > 0)
    half = width[row, column][:, None] / 2
    w = (cuts[row, column] + cuts[row, column + 1])[:, None] / 2 + half * _POINTS
    values = half * _WEIGHTS * density(w) * f.f(root * (mean[row][:, None] + s * w))
    sums = (values.sum(axis=1), (values * w).sum(axis=1), (values * (w * w - 1)).sum(axis=1))
    return np.stack([np.bincount(row, each, mean.size) for each in sums])
