"""Which initialiser a weight was filled by, told by its variance."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple, cast

from initfast.diagnosis.advice import Act, needed
from initfast.init.fans import Nonlinearity, calculate_gain
from initfast.stats.layer import Layer


class Known(NamedTuple):
    """An initialiser and the variance that it gives one weight."""

    name: str
    variance: float


def candidates(fan_in: int, fan_out: int, act: Act | str | None, blocks: int) -> Iterator[Known]:
    """What the usual initialisers give a weight.

    Args:
        fan_in, fan_out: of the weight.
        act: the activation that follows.
        blocks: how many layers of the net play the same role, for GPT-2's 0.02 / √(2 blocks).
    """
    act = Act.named(act) if isinstance(act, str) else act
    name_of_act = None if act is None else act.name
    yield Known("torch's default, kaiming_uniform_(a=√5)", 1 / (3 * fan_in))
    yield Known("uniform in ±1/√fan_out", 1 / (3 * fan_out))
    gains = {"": 1.0, 'nonlinearity="relu"': 2.0, 'nonlinearity="tanh"': 25 / 9}
    if act is not None and act.name in ("selu", "leaky_relu"):
        gains[f'nonlinearity="{act.name}"'] = (
            calculate_gain(cast(Nonlinearity, act.name), act.alpha) ** 2
        )
    for name, square in gains.items():
        # Also what orthogonal weights have, with max(fan_in, fan_out) for the fan.
        yield Known(f"kaiming({name})" if name else "LeCun", square / fan_in)
        yield Known(f'kaiming({name or "linear"}, mode="fan_out")', square / fan_out)
        yield Known(f"Xavier({name})", 2 * square / (fan_in + fan_out))
    if name_of_act == "sigmoid":
        yield Known("Xavier(gain=4)", 32 / (fan_in + fan_out))
    yield Known(f"kaiming for {name_of_act}", needed(act) / fan_in)
    yield Known("normal of std 0.02", 4e-4)
    yield Known("normal of std 0.02 / √(2 blocks)", 4e-4 / (2 * max(blocks, 1)))
    yield Known("normal of std 0.01", 1e-4)
    yield Known("small init, √(2 / (5 fan_in))", 2 / (5 * fan_in))
    yield Known("SIREN, U(±√(6 / fan_in) / 30)", 2 / (900 * fan_in))
    yield Known("SIREN, U(±1 / fan_in)", 1 / (3 * fan_in**2))
    if fan_out < fan_in:
        yield Known("spectral, √(fan_out / fan_in) / √fan_in", fan_out / fan_in**2)


def recognise(
    variance: float, fan_in: int, fan_out: int, act: Act | str | None, blocks: int, tolerance: float
) -> Known | None:
    """The initialiser whose variance is nearest, if it is within the relative tolerance."""
    log, known = math.log(variance), _logs(fan_in, fan_out, act, blocks)
    at = bisect(known, log, key=itemgetter(0))
    _, _, best = min(known[max(at - 1, 0) : at + 1], key=lambda one: abs(log - one[0]))
    return best if abs(variance / best.variance - 1) <= tolerance else None


@lru_cache(maxsize=256)  # most layers of a net are like others
def _logs(
    fan_in: int, fan_out: int, act: Act | str | None, blocks: int
) -> list[tuple[float, int, Known]]:
    """What the initialisers give, by the variances' logarithms; of equal ones the first alone."""
    found = sorted(
        (math.log(k.variance), i, k) for i, k in enumerate(candidates(fan_in, fan_out, act, blocks))
    )
    firsts = {log: (log, i, k) for log, i, k in reversed(found)}
    return list(reversed(firsts.values()))


def initialiser_of(layer: Layer, act: Act | None, blocks: int, tolerance: float) -> str | None:
    """What a layer's weight was filled by, in words; None where nothing fits.

    Args:
        layer: may have no weight.
        act, blocks: as in :func:`candidates`.
        tolerance: of the variance, relative; of few weights chance explains more.
    """
    weight = layer.weight
    if weight is None or not weight.std > 0:
        return None
    fans = [(weight.fan_in, weight.fan_out)]
    if layer.op.startswith("ConvTranspose"):
        # torch's initialisers take these fans for the other way, and none takes note of a stride
        whole = (_fan_in_without_stride(layer, weight.moments.count), weight.fan_out)
        fans = [fans[0][::-1], whole[::-1], whole, *fans]
    tolerance = max(tolerance, 4 * math.sqrt(2 / max(weight.moments.finite, 1)))
    if weight.moments.mean * weight.moments.mean > tolerance * weight.std * weight.std:
        return None
    found = (recognise(weight.std * weight.std, *f, act, blocks, tolerance) for f in fans)
    return next((known.name for known in found if known), None)


def _fan_in_without_stride(layer: Layer, weights: int) -> int:
    """That of a transposed convolution's shape: its weights over its output's channels."""
    dimensions = int(layer.op.removeprefix("ConvTranspose")[0])
    channels = layer.shape[-1 - dimensions] if len(layer.shape) > dimensions else 0
    return max(weights // channels, 1) if channels else layer.weight.fan_in if layer.weight else 1
