"""What residual sums, dropout, pooling, gates and softmax make of signals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np

from initfast.prediction.activations import activation_mesh
from initfast.prediction.components import new_component
from initfast.prediction.signal import Signal
from initfast.stats.layer import Layer
from initfast.theory.quadrature import Expectations


def residual_sum(layer: Layer, terms: Sequence[Signal]) -> Signal:
    """The sum of two outputs, with their covariance."""
    units, count = layer.shape[_unit_dim(layer)] if layer.shape else 1, layer.post.count
    return reduce(lambda a, b: _sum(a, b, units, count), terms)


def _unit_dim(layer: Layer) -> int:
    """Images have their channels second."""
    return 1 if len(layer.shape) == 4 else -1


def _sum(a: Signal, b: Signal, units: int, count: int) -> Signal:
    cov = a.components.covariance(b.components)
    mean, var = a.mean + b.mean, max(a.var + b.var + 2 * cov, 0.0)
    q = mean**2 + var
    if not q > 0:
        return Signal(0.0, 0.0, common=1.0, rows=max(a.rows, b.rows))
    qa, qb = a.square / q, b.square / q
    together = 2 * (a.mean * b.mean + cov) / q
    common = qa * a.common + qb * b.common + 2 * a.mean * b.mean / q
    common += 2 * cov * min(a.common, b.common) / q
    rows = max(a.rows, b.rows)
    twice, _ = a._replace(rows=rows).pairs(count, units)
    # The terms' product has the mean of their covariance over the draws, and about it chance.
    crossed = 4 * qa * qb * (twice + (1 - twice) * a.common * b.common) / units
    chance = (qa + together / 2) ** 2 * a.chance + (qb + together / 2) ** 2 * b.chance
    third = a.skew * a.var**1.5 + b.skew * b.var**1.5
    fourth = a.kurtosis * a.var**2 + b.kurtosis * b.var**2
    is_one = cov > 0.5 * math.sqrt(a.var * b.var)  # of the same tensor: cumulants do not add
    return Signal(
        mean,
        var,
        a.skew if is_one else third / var**1.5 if var else 0.0,
        a.kurtosis if is_one else fourth / var**2 if var else 0.0,
        min(max(common, 0.0), 1.0),
        qa**2 * a.spread + qb**2 * b.spread + 2 * qa * qb * (1 - common) ** 2 / units,
        chance + crossed,
        rows,
        a.components.plus(b.components),
    )


def dropout(layer: Layer, x: Signal) -> Signal:
    """Zeros for a part of the elements; the others grow, so that the mean stays."""
    p = layer.settings["p"] if layer.settings["training"] else 0.0
    if p == 0 or x.square == 0:
        return x
    if p == 1:
        return Signal(0.0, 0.0, common=1.0, rows=x.rows)
    square = x.square / (1 - p)
    fourth = x.fourth / (1 - p) ** 3
    var = square - x.mean**2
    # Of the moments about the mean from those about 0.
    third = (x.skew * x.var**1.5 + 3 * x.mean * x.var + x.mean**3) / (1 - p) ** 2
    third -= 3 * x.mean * square - 2 * x.mean**3
    central = fourth - 4 * x.mean * (third + 3 * x.mean * square - 2 * x.mean**3)
    central += 6 * x.mean**2 * square - 3 * x.mean**4
    drawn = (x.fourth / x.square**2) * p / (1 - p) / layer.post.count
    return x._replace(
        var=var,
        skew=third / var**1.5,
        kurtosis=central / var**2 - 3,
        common=x.common * (1 - p),
        spread=x.spread * (1 - p) ** 2,
        chance=x.chance + drawn,
        components=x.components.plus(new_component(square - x.square)),
        settled=False,
        bent=None,
    )


def average_pooling(layer: Layer, x: Signal) -> Signal:
    """The mean of k places: of what they have in common nothing goes, of the rest all but 1/k."""
    k = _places(layer)
    square = x.square * (x.common + (1 - x.common) / k)
    var = max(square - x.mean**2, 0.0)
    # What the places have in common is each unit's own, and left to chance but after a norm.
    is_chance = not (x.settled or (x.bent is not None and x.bent.settled))
    share = x.common * x.square / square if square else 0.0
    own = 2 / layer.shape[_unit_dim(layer)] * (share * (1 - x.common)) ** 2 if is_chance else 0.0
    return x._replace(
        chance=x.chance + own,
        var=var,
        skew=x.skew / math.sqrt(k),
        kurtosis=x.kurtosis / k,
        common=min(x.common * x.square / square, 1.0) if square else 1.0,
        spread=x.spread * (x.square / square) ** 2 if square else 0.0,
        components=new_component(var),
        settled=False,
        bent=None,
    )


_COMMON = np.polynomial.hermite_e.hermegauss(24)
_OWN = np.linspace(-8.0, 8.0, 801)


def max_pooling(layer: Layer, x: Signal) -> Signal | None:
    """The largest of k places of a growing function of normal variables; None of another."""
    k = _places(layer)
    if x.bent is None or k == 1:
        return x if k == 1 else None
    mesh, mean, std, c, settled = x.bent
    nodes, weights = _COMMON
    density = np.exp(-(_OWN**2) / 2)
    below = np.cumsum(density)
    largest = np.diff((below / below[-1]) ** k, prepend=0.0)
    z = math.sqrt(c) * nodes[:, None] + math.sqrt(1 - c) * _OWN
    y, weight = mesh.f(mean + std * z), (weights / weights.sum())[:, None] * largest
    before = Expectations(mesh, mean, std)
    grown = float((weight * y**2).sum()) / before.second * x.square
    first = float((weight * y).sum()) * math.sqrt(x.square / before.second)
    square = max(grown, first**2)
    common = float((weights / weights.sum()) @ (largest @ y.T) ** 2) / float((weight * y**2).sum())
    var = square - first**2
    centred = y - float((weight * y).sum())
    own = float((weight * centred**2).sum())
    return Signal(
        first,
        var,
        float((weight * centred**3).sum()) / own**1.5 if own else 0.0,
        float((weight * centred**4).sum()) / own**2 - 3 if own else 0.0,
        min(common, 1.0),
        x.spread,
        # Units whose places have more in common grow less; a norm leaves them no such difference.
        x.chance + (0.0 if settled else 4 * (1 - c) / layer.shape[_unit_dim(layer)]),
        x.rows,
        new_component(var),
    )


def _places(layer: Layer) -> float:
    """How many places a pooling takes together."""
    size = layer.settings.get("kernel_size")
    dims = int(layer.op[-2])
    if size is not None:
        return math.prod(size) if isinstance(size, list) else float(size) ** dims
    given = layer.input_shape or layer.shape
    return max(math.prod(given[-dims:]) / max(math.prod(layer.shape[-dims:]), 1), 1.0)


def gated(layer: Layer, x: Signal) -> Signal:
    """a sigmoid(b), of the halves of a signal: E y² = E a² E sigmoid(b)²."""
    gate = Expectations(activation_mesh("sigmoid", None, None), x.mean, math.sqrt(x.var))
    square, mean = x.square * gate.second, x.mean * gate.first
    units, (twice, _) = layer.shape[-1], x.pairs(layer.post.count, layer.shape[-1])
    slope = gate.slope_of_second * x.var / gate.second
    of_gate = max(gate.fourth / gate.second**2 - 1, 0.0)
    kappa = 3 * (1 + of_gate)
    own = twice * (kappa - 1 - 2 * (1 + slope) ** 2 / 2) + (1 - twice) * x.common * of_gate
    # Each half takes one half of the units, of whose chance the input's is the mean.
    chance = (1 + slope) ** 2 * x.chance + max(own, 0.0) / units
    common = x.common * (gate.first**2 / gate.second + x.common * (1 - gate.first**2 / gate.second))
    var = square - mean**2
    return Signal(
        mean, var, 0.0, 3 * (1 + of_gate) - 3, common, x.spread, chance, x.rows, new_component(var)
    )


def softmax(layer: Layer, x: Signal) -> Signal | None:
    """n normal logits of variance s²: E p² = e^{s²} / (n (e^{s²} + n - 1)); None of masked ones."""
    if layer.input is None or layer.input.nonfinite:
        return None
    n = layer.shape[layer.settings.get("dim") or -1]
    grown = math.exp(min(x.var, 50.0))
    square = grown / (n * (grown + n - 1))
    var = max(square - 1 / n**2, 0.0)
    twice, _ = x.pairs(layer.post.count, n)
    chance = ((grown - 1) / grown) ** 2 * x.chance + 4 * (grown - 1) ** 2 * twice / n
    return Signal(
        1 / n,
        var,
        common=1 / n**2 / square,
        chance=chance,
        rows=x.rows,
        components=new_component(var),
    )
