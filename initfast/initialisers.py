"""Which initialiser a weight was filled by, as its variance tells, and which one it should be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from initfast.activations import ACTIVATIONS
from initfast.scaling import calculate_gain
from initfast.theory import expectation


class Known(NamedTuple):
    """An initialiser and the variance that it gives one weight."""

    name: str
    variance: float


def activation_in(op: str) -> str | None:
    """The activation that an operator ends in; None where it has none."""
    name = op.rpartition(" + ")[2]
    return name if name in ACTIVATIONS and name != "identity" else None


@cache
def needed(act: str | None) -> float:
    """The fan-in times the variance of the weights at which the scale holds from layer to layer.

    2 for ReLU (He et al. 2015); 1 for none, for tanh, where it is also critical (Schoenholz et al.
    2017), and for SELU (Klambauer et al. 2017); else 1 / E[act(Z)^2], Z standard normal.

    Example:
        >>> needed("relu"), needed("tanh")
        (2.0, 1.0)
    """
    if act in (None, "tanh", "selu", "softsign", "hardtanh"):
        return 1.0
    if act == "relu":
        return 2.0
    value, alpha, beta = ACTIVATIONS[act].value, *ACTIVATIONS[act].defaults
    return 1 / expectation(lambda z: value(z, alpha, beta).square())


def call(act: str | None) -> str:
    """The initialiser to use before an activation, as code with ``w`` for the weight."""
    if act == "relu":
        return 'initfast.init.kaiming_normal_(w, nonlinearity="relu")'
    if act == "leaky_relu":
        return 'initfast.init.kaiming_normal_(w, 0.01, nonlinearity="leaky_relu")'
    scale = needed(act)
    if scale == 1:
        return "initfast.init.lecun_normal_(w)"
    return f"initfast.init.variance_scaling_(w, {scale:.3g})"


def candidates(fan_in: int, fan_out: int, act: str | None, blocks: int) -> Iterator[Known]:
    """What the usual initialisers give a weight.

    Args:
        fan_in, fan_out: of the weight.
        act: the activation that follows.
        blocks: how many layers of the net play the same role, for GPT-2's 0.02 / √(2 blocks).
    """
    yield Known("torch's default, kaiming_uniform_(a=√5)", 1 / (3 * fan_in))
    gains = {"": 1.0, 'nonlinearity="relu"': 2.0, 'nonlinearity="tanh"': 25 / 9}
    if act in ("selu", "leaky_relu"):
        gains[f'nonlinearity="{act}"'] = calculate_gain(act) ** 2
    for name, square in gains.items():
        # Also what orthogonal weights have, with max(fan_in, fan_out) for the fan.
        yield Known(f"kaiming({name})" if name else "LeCun", square / fan_in)
        yield Known(f'kaiming({name or "linear"}, mode="fan_out")', square / fan_out)
        yield Known(f"Xavier({name})", 2 * square / (fan_in + fan_out))
    if act == "sigmoid":
        yield Known("Xavier(gain=4)", 32 / (fan_in + fan_out))
    yield Known(f"kaiming for {act}", needed(act) / fan_in)
    yield Known("normal of std 0.02", 4e-4)
    yield Known("normal of std 0.02 / √(2 blocks)", 4e-4 / (2 * max(blocks, 1)))
    yield Known("normal of std 0.01", 1e-4)
    yield Known("small init, √(2 / (5 fan_in))", 2 / (5 * fan_in))


def recognise(
    variance: float, fan_in: int, fan_out: int, act: str | None, blocks: int, tolerance: float
) -> Known | None:
    """The initialiser whose variance is nearest, if it is within the relative tolerance."""
    known = candidates(fan_in, fan_out, act, blocks)
    best = min(known, key=lambda k: abs(math.log(variance / k.variance)))
    return best if abs(variance / best.variance - 1) <= tolerance else None
