"""What layers do to a small difference between two inputs, by mean-field theory."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from initfast.diagnosis.advice import Act, activation_of, slope_mesh
from initfast.diagnosis.facts import dense
from initfast.stats.layer import Layer
from initfast.theory.elementwise import Array
from initfast.theory.quadrature import density

_FAR, _TINY, _LEAST = 1e6, 1e-300, 1e-300
_REACH = 12.0  # standard deviations: beyond lie 4e-33 of a normal's values
_STEPS = np.linspace(-_REACH, _REACH, 17)
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(5)


def log_slopes(layers: Sequence[Layer]) -> list[float]:
    """The logarithm by which each multiplies the square of a difference between two inputs.

    fan_in Var(w) E[act'(z)^2] of a linear layer or a convolution, z normal with the moments
    measured (Poole et al. 2016, eq. 5; Schoenholz et al. 2017); of other layers the ratio of their
    variances, as of one slope all over.
    """
    found = [0.0] * len(layers)
    by_act: dict[Act, list[int]] = defaultdict(list)
    for i, layer in enumerate(layers):
        if layer.weight is not None and dense(layer):
            found[i] = math.log(max(layer.weight.scale, _LEAST))
            act = activation_of(layer)
            if act is not None and layer.pre is not None and layer.pre.finite > 1:
                by_act[act].append(i)
        elif layer.input is not None and layer.input.std > 0 and layer.post.std > 0:
            found[i] = 2 * math.log(layer.post.std / layer.input.std)
    for act, places in by_act.items():
        zs = [z for i in places if (z := layers[i].pre) is not None]
        squares = squared_slopes(act, [z.mean for z in zs], [z.std for z in zs])
        for i, log in zip(places, np.log(np.maximum(squares, _LEAST)).tolist(), strict=True):
            found[i] = max(found[i] + log, math.log(_LEAST))
    return found


def squared_slopes(act: Act, means: Sequence[float], stds: Sequence[float]) -> Array:
    """E act'(z)^2 for normal z of many means and stds; a std may be 0.

    Gauss-Legendre quadrature between the points where the slope is not smooth, and steps of the
    density: to about 1e-5, for all of them at once.

    Example:
        >>> relu = Act.named("relu")
        >>> squared_slopes(relu, [0.0, 1.0], [3.0, 0.0]).round(6).tolist()
        [0.5, 1.0]
    """
    mean, std = np.asarray(means, float)[:, None], np.asarray(stds, float)[:, None]
    shrink = _FAR / np.maximum(np.maximum(np.abs(mean), std), _FAR)  # far out all are straight
    mean, std = mean * shrink, np.maximum(std * shrink, _TINY)
    mesh = slope_mesh(act)
    cells = mesh.cells(float((np.abs(mean) + _REACH * std).max()))
    with np.errstate(over="ignore"):
        cuts = ((np.append(cells.low, cells.high[-1]) - mean) / std).clip(-_REACH, _REACH)
    edges = np.sort(np.concatenate([cuts, np.tile(_STEPS, (len(mean), 1))], axis=1))[:, :, None]
    half = np.diff(edges, axis=1) / 2
    z = (edges[:, 1:] + edges[:, :-1]) / 2 + half * _POINTS
    slope = mesh.f(mean[:, :, None] + std[:, :, None] * z)
    return np.asarray((half * _WEIGHTS * density(z) * slope**2).sum(axis=(1, 2)))
