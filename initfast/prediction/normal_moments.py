"""The moments of a function of a normal variable, many times over in little time.

A net has as many normal variables as layers, and but few functions. So nodes are shared by all
variables of about one mean and std: the function is computed there once, and only the density anew.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from initfast.theory.elementwise import Array
from initfast.theory.hermite import MONOMIALS, ORDER
from initfast.theory.legendre import POINTS, WEIGHTS
from initfast.theory.mesh import Mesh

_REACH = 8.0  # standard deviations: beyond lie 1e-15 of the values
_POWERS = 4


class _Nodes(NamedTuple):
    """Nodes for the normal variables of about one mean and std.

    Attributes:
        x: the nodes.
        weight: the length that each stands for.
        centre, scale: of the function's values there: about their mean, and the largest.
        powers: of (f(x) - centre) / scale, the first four, a row each.
    """

    x: Array
    weight: Array
    centre: float
    scale: float
    powers: Array


@lru_cache(maxsize=512)
def _nodes(mesh: Mesh, octave: int, place: int) -> _Nodes:
    """For a std in (step / 2, step] and a mean near place * step, where step is 2^octave."""
    step = 2.0**octave
    middle, reach = place * step, (_REACH + 0.5) * step
    cells = mesh.cells(abs(middle) + reach)
    own = np.append(cells.low, cells.high[-1])
    even = middle + step * np.arange(-_REACH - 0.5, _REACH + 1)
    edges = np.unique(np.concatenate([own[np.abs(own - middle) < reach], even]))
    half = np.diff(edges)[:, None] / 2
    x = ((edges[1:] + edges[:-1])[:, None] / 2 + half * POINTS).ravel()
    weight, y = (half * WEIGHTS).ravel(), mesh.f(x)
    mass = weight * np.exp(-(((x - middle) / step) ** 2) / 2)
    centre = float(mass @ y / mass.sum())
    scale = float(np.abs(y).max()) or 1.0
    deviation = (y - centre) / scale
    powers = np.stack([deviation**j for j in range(1, _POWERS + 1)])
    return _Nodes(x, weight, centre, scale, powers)


class NormalMoments(NamedTuple):
    """Moments of d = (f(x) - centre) / scale, f a function of a normal variable x = mean + std z.

    Attributes:
        centre, scale: near the mean of f(x), and its largest value.
        of_powers: E h_k(z) d^j, of the orthonormal Hermite polynomials h_k: a list of all k for
            each j from 1 to 4.
    """

    centre: float
    scale: float
    of_powers: list[list[float]]

    @classmethod
    def of(cls, mesh: Mesh, mean: float, std: float) -> NormalMoments:
        """Of the function of this mesh.

        Raises:
            ArgumentError: it is NaN or infinite somewhere near the mean.

        Example:
            >>> from initfast.theory.mesh import mesh
            >>> square = NormalMoments.of(mesh(torch.square), 0.0, 1.0)
            >>> round(square.centre + square.scale * square.of_powers[0][0], 9)  # E z²
            1.0
        """
        octave = math.ceil(math.log2(std))
        at = _nodes(mesh, octave, round(math.ldexp(mean, -octave)))
        z = (at.x - mean) / std
        basis = np.empty((ORDER, z.size))  # the density times powers of z
        np.multiply(np.exp(z * z * -0.5), at.weight, out=basis[0])
        for k in range(1, ORDER):
            np.multiply(basis[k - 1], z, out=basis[k])
        found = (MONOMIALS @ (basis @ at.powers.T)).T / (std * math.sqrt(2 * math.pi))
        return cls(at.centre, at.scale, found.tolist())
