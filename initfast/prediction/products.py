"""What a linear layer, a convolution and an embedding make of a signal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from initfast.prediction.components import new_component
from initfast.prediction.signal import Signal, measured
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.weight import Weight

NO_BIAS = Moments(1, mean=0.0)


def product(
    x: Signal, weight: Weight, bias: Moments, units: int, count: int, inside: float = 1.0
) -> Signal:
    """y = W x + b of weights that know nothing of x: E y² = fan_in Var(w) E x² + E b².

    A mean of the weights sums up the mean of x. Var(w) and E b² are those of the weights at hand,
    so what is left to chance is how x lies in them: of one row 2 / units of its own variance of ln
    q, less by the part that all directions have alike.

    Args:
        x: the input.
        weight, bias: the layer's.
        units: how many outputs share an input.
        count: of all elements of the output.
        inside: the part of the products that are not with padding.

    Source:
        He et al. 2015, eq. 6; Hanin & Nica 2020 (Communications in Mathematical Physics), for 2/n.
    """
    fan_in, m = weight.fan_in, weight.moments
    var = m.m2 / m.finite
    common_weight = max(m.mean**2 - var / m.finite, 0.0)
    summed = common_weight * fan_in * (fan_in - 1) * x.mean**2
    scale = inside * fan_in * (var + common_weight)
    signal = scale * x.square + summed
    square = signal + bias.rms**2
    mean = bias.mean + inside * fan_in * m.mean * x.mean if common_weight else bias.mean
    if not square > 0:
        return Signal(0.0, 0.0, common=1.0, rows=x.rows)
    share = signal / square
    apart = (1 - x.common) ** 2
    x = x._replace(spread=max(x.spread, apart / fan_in))
    twice, alike = x.pairs(count, units)
    own = twice + (1 - twice) * alike - 1 / fan_in
    with_bias = 4 * share * (1 - share) * (twice + (1 - twice) * x.common)
    chance = share**2 * (x.chance + 2 * max(own, 0.0) / units) + with_bias / units
    common = share * x.common + 1 - share
    var_y = max(square - mean**2, 0.0)
    return Signal(
        mean,
        var_y,
        kurtosis=min(3 * share**2 * max(x.fourth / x.square**2 - 1, 0.0) / fan_in, 3.0)
        if x.square > 0
        else 0.0,
        common=max(common, mean**2 / square),
        spread=share**2 * x.spread + (1 - common) ** 2 / units,
        chance=chance,
        rows=x.rows,
        components=new_component(square - mean**2),
        told=min((bias.rms**2 - bias.mean**2) / var_y, 1.0) if var_y else 0.0,
    )


def linear(layer: Layer, x: Signal) -> Signal:
    """A linear layer."""
    weight = layer.weight
    assert weight is not None
    units = layer.shape[-1] if layer.shape else 1
    return product(x, weight, _bias(layer), units, layer.post.count)


def convolution(layer: Layer, x: Signal) -> Signal:
    """A convolution, with the part of its products that zero padding takes."""
    weight = layer.weight
    assert weight is not None
    units = layer.shape[-1 - len(_sizes(layer))]
    return product(x, weight, _bias(layer), units, layer.post.count, _inside(layer))


def embedding(layer: Layer, x: Signal | None = None) -> Signal:
    """Rows of a table; which, nobody knows before."""
    weight = layer.weight
    assert weight is not None
    m, units = weight.moments, layer.shape[-1]
    rows = min(layer.post.count, m.count) / units
    var = m.m2 / m.finite
    square = var + m.mean**2
    chance = 2 / (units * max(rows, 1.0))
    common = m.mean**2 / square if square > 0 else 1.0
    spread = (1 - common) ** 2 / units
    shape = measured(m, units)
    return Signal(
        m.mean,
        var,
        shape.skew,
        shape.kurtosis,
        common,
        spread,
        chance,
        rows=rows,
        components=new_component(var),
    )


def _bias(layer: Layer) -> Moments:
    return (layer.vectors or {}).get("bias", NO_BIAS)


def _sizes(layer: Layer) -> Sequence[int]:
    size = layer.settings.get("kernel_size", ())
    return size if isinstance(size, list) else [size]


def _inside(layer: Layer) -> float:
    """The part of a convolution's products that are with its input and not with zeros beside it."""
    own, sizes = layer.settings, _sizes(layer)
    padding = own.get("padding", 0)
    if own.get("padding_mode") != "zeros" or padding == "valid" or layer.input_shape is None:
        return 1.0
    if layer.op.startswith("ConvTranspose"):
        return 1.0
    dims = len(sizes)
    part = 1.0
    for d, size in enumerate(sizes):
        step, apart = own["dilation"][d], own["stride"][d]
        before = step * (size - 1) // 2 if padding == "same" else padding[d]
        length, places = layer.input_shape[d - dims], layer.shape[d - dims]
        taps = (p * apart - before + k * step for p in range(places) for k in range(size))
        part *= sum(0 <= tap < length for tap in taps) / max(places * size, 1)
    return part


def attention(layer: Layer, x: Signal) -> Signal:
    """Softmax attention of a sequence to itself, and its last projection.

    The logits of n keys are about normal, of variance s²; so each of the n weights is about 1 / n,
    and the sum of their squares n e^{s²} / (n (e^{s²} + n - 1)). An average of values of
    correlation c keeps c of their square, and of the rest that sum. Logits and values are of the
    same tokens: e^{u.x} moves the mean of normal d-wide tokens x by their covariance times u, which
    keeps s² / d more.
    """
    heads, shape = layer.settings["num_heads"], layer.shape
    d = shape[-1]
    keys = shape[1] if layer.settings["batch_first"] and len(shape) > 2 else shape[0]
    weight, last = layer.weights["in_proj_weight"], layer.weights["out_proj.weight"]
    vectors = layer.vectors or {}
    fans = Weight(d, d, weight.moments)
    values = product(x, fans, vectors.get("in_proj_bias", NO_BIAS), d, layer.post.count)
    # Each logit is a sum over d / heads products, times sqrt(heads / d).
    logits = values.square**2 * (1 - values.common) if heads else 0.0
    grown = math.exp(min(logits, 50.0))
    apart = grown / (grown + keys - 1)
    if layer.settings["training"]:
        apart /= 1 - min(layer.settings["dropout"], 0.99)
    moved = (1 - 1 / keys) * logits / d
    kept = values.common + (1 - values.common) * (apart + moved)
    mixed = values._replace(
        var=kept * values.square,
        mean=0.0,
        common=min(values.common / kept, 1.0),
        rows=max(layer.post.count / d / keys / max(1 - apart, 1 / keys), 1.0),
        kurtosis=0.0,
    )
    # The averages are as few as the samples, and lie by chance in the values' weights too.
    twice, alike = mixed.pairs(layer.post.count, d)
    own = 2 * max(twice + (1 - twice) * alike - 1 / d, 0.0) / d
    return product(
        mixed._replace(chance=mixed.chance + own),
        Weight(d, d, last.moments),
        vectors.get("out_proj.bias", NO_BIAS),
        d,
        layer.post.count,
    )
