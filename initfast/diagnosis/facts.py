"""What the numbers of one layer tell of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from initfast.stats.layer import Layer
from initfast.stats.unit_moments import UnitMoments, UnitStatistics
from initfast.stats.weight import Weight


def nonfinite(layer: Layer) -> float:
    """The share of NaN and infinity in its output, or before its activation if that is more."""
    found = [layer.post] if layer.pre is None else [layer.post, layer.pre]
    return max(m.nonfinite_share for m in found)


def dense(layer: Layer) -> bool:
    """Whether a layer is a linear layer or a convolution whose weight is known."""
    return layer.weight is not None and _is_product(layer.op)


@cache  # a net has few operators
def _is_product(op: str) -> bool:
    return op.lower().startswith(("linear", "conv"))


def units_of(layer: Layer) -> int:
    """How many units a layer has: channels of a convolution, else entries of the last dimension."""
    at = _unit_dim(layer.op)
    return layer.units or (layer.shape[at] if len(layer.shape) >= -at else 1)


@cache
def _unit_dim(op: str) -> int:
    spatial = re.match(r"Conv(?:Transpose)?(\d)d", op)
    return -1 - (int(spatial[1]) if spatial else 0)


def over_samples(layer: Layer) -> Layer | UnitMoments | UnitStatistics:
    """What has the layer's `batch_std` and `correlation`: of whole samples where they are known."""
    return layer if layer.per_sample is None else layer.per_sample


def is_passage(layer: Layer) -> bool:
    """Whether a layer is a function of the one tensor that it takes, without weights."""
    is_one = layer.input is not None and layer.input.std > 0 and not layer.further_inputs
    return is_one and layer.weight is None and not layer.weights and not layer.op.startswith("add")


def is_constant(layer: Layer) -> bool:
    """Whether all weights of a layer are one number."""
    weight = layer.weight
    if weight is None or weight.moments.nonfinite:
        return False
    return weight.moments.count > 1 and weight.moments.m2 == 0


def squares(weight: Weight) -> float:
    """By so much a weight multiplies the mean square of what has a mean of zero: its own counts."""
    return weight.fan_in * weight.moments.rms * weight.moments.rms


def squares_in_words(weight: Weight) -> str:
    """What of the weight :func:`squares` multiplies the fan-in by."""
    return "Var(w)" if abs(weight.moments.mean) < weight.std else "E(w²)"


def spans(indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and last of each group of neighbouring places, at most two apart."""
    first = last = -9
    for i in sorted(indices):
        if i - last > 2:
            if first >= 0:
                yield first, last
            first = i
        last = i
    if first >= 0:
        yield first, last
