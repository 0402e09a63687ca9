"""What norms make of a signal."""

from __future__ import annotations

import math

from initfast.prediction.signal import Signal
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments

ONES, ZEROS = Moments(1, mean=1.0), Moments(1, mean=0.0)
DEFAULT_EPS = 1.1920929e-07
"""RMSNorm's where none was given: that of float32."""


def norm(layer: Layer, x: Signal) -> Signal | None:
    """A batch, layer, group, instance or RMS norm; None where running statistics decide.

    It makes each unit's variance over a batch, or each row's over the units, 1, less what its eps
    takes, then multiplies and adds.
    """
    kind = layer.op.partition(" + ")[0]
    vectors = layer.vectors or {}
    factor, bias = vectors.get("weight", ONES), vectors.get("bias", ZEROS)
    eps = layer.settings.get("eps") or DEFAULT_EPS
    if "running_mean" in vectors and not layer.settings["training"]:
        normal = _with_running(x, vectors["running_mean"], vectors["running_var"], eps)
    elif kind == "RMSNorm":
        normal = x.scaled(1 / math.sqrt(x.square + eps))
        normal = normal._replace(chance=0.0, kurtosis=x.kurtosis)
    else:
        normal = _normalised(x, eps, kind)
    return None if normal is None else _affine(normal, factor, bias)


def _with_running(x: Signal, mean: Moments, var: Moments, eps: float) -> Signal | None:
    """By statistics of before; those that no data have reached yet pass the input on."""
    fresh = mean.rms == 0 and var.min == var.max == 1
    return x.scaled(1 / math.sqrt(1 + eps)) if fresh else None


def _normalised(x: Signal, eps: float, kind: str) -> Signal:
    over_batch = kind.startswith("BatchNorm")
    # A batch norm takes from each unit what all rows have in common, the others a row's own mean.
    var = x.square * (1 - x.common) if over_batch else x.var
    if not var > 0:
        return Signal(0.0, 0.0, common=1.0, rows=x.rows)
    scaled = x._replace(mean=0.0, var=var).scaled(1 / math.sqrt(var + eps))
    common = 0.0 if over_batch else max(x.common * x.square - x.mean**2, 0.0) / x.var
    return scaled._replace(common=min(common, 1.0), chance=0.0, settled=True)


def _affine(x: Signal, factor: Moments, bias: Moments) -> Signal:
    """Times a factor and plus a bias, one of each a unit."""
    if factor.rms == 0:
        return Signal(bias.mean, bias.rms**2 - bias.mean**2, common=1.0, rows=x.rows)
    y = x.scaled(math.copysign(factor.rms, factor.mean))
    mean = factor.mean * x.mean + bias.mean
    square = y.square + bias.rms**2 + 2 * factor.mean * x.mean * bias.mean
    common = (y.common * y.square + bias.rms**2) / square if square else 1.0
    return y._replace(mean=mean, var=max(square - mean**2, 0.0), common=min(common, 1.0))
