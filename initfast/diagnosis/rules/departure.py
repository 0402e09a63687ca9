"""The check of each layer against theory: whether its weights explain its output."""

from __future__ import annotations

import math

from initfast.diagnosis.facts import dense
from initfast.diagnosis.net import Net, Outcome
from initfast.prediction.prediction import Estimate
from initfast.prediction.rules import outcome
from initfast.prediction.signal import fits, measured
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import number

SURE = 5.0
"""Standard deviations of a draw of the weights."""

CENTRED = 0.3
"""A mean of the weights of so many of their standard deviations is no chance: it is a filter."""


def departure(net: Net) -> Outcome:
    """A layer makes more or less of its input than its weights' variance says."""
    line = math.log(max(net.limits["departure"], 1.0))
    for i, layer in enumerate(net.sound):
        z = layer.pre or layer.post
        if _is_near(layer, z, line / 2):
            continue
        expected = _expected(layer)
        if expected is None or layer.input is None or not (expected.rms > 0 and z.rms > 0):
            continue
        off = math.log(z.rms) - math.log(expected.rms)
        if abs(off) > line and abs(expected.off(z)) > SURE:
            given = layer.input.rms
            yield net.finding(
                "departure",
                "info",
                (i, i),
                "departure",
                z.rms / expected.rms,
                f"departs from theory: it multiplies the root mean square of its input by "
                f"{number(z.rms / given)}; its weights say {number(expected.rms / given)}",
                "the weights and the input are not independent, as after training, or a few of "
                "its inputs are larger than the others and have other weights",
            )


def _is_near(layer: Layer, z: Moments, line: float) -> bool:
    """Whether it makes about what the variance of its weight says; all else is worked out."""
    weight, given = layer.weight, layer.input
    if weight is None or given is None:
        return True
    rms = math.sqrt(weight.scale) * given.rms
    return rms > 0 and z.rms > 0 and abs(math.log(z.rms) - math.log(rms)) < line


def _expected(layer: Layer) -> Estimate | None:
    """Its pre-activation from the moments of its input and its weight.

    All rows are taken to be alike, which leaves most to chance.
    """
    weight, given = layer.weight, layer.input
    if not dense(layer) or weight is None or given is None or not given.finite or not given.rms > 0:
        return None
    if not fits(given):
        return None
    is_centred = abs(weight.moments.mean) <= CENTRED * weight.moments.std
    if not is_centred or layer.op.startswith("ConvTranspose"):
        return None
    found = outcome(layer, [measured(given, weight.fan_in, rows=1)], of_pre=True).post
    return None if found is None else Estimate.of(found)
