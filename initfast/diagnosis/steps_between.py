"""What happens to the signal between layers with weights, and weights that offset it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from initfast.diagnosis.facts import dense
from initfast.diagnosis.net import Net
from initfast.stats.text import number

LEAST_SHARE = 0.5
"""What lies between is named where it makes so much of the change, in logarithms."""


def between(net: Net, weighted: Sequence[int], sign: int, rate: float | None) -> tuple[str, str]:
    """What changes the scale from the output of one layer to the input of the next, in words.

    Args:
        net: the layers.
        weighted: the places of those with weights, in order.
        sign: +1 where the scale grows, -1 where it falls.
        rate: what is to be explained, from one to the next; of a gradient the signal may not tell.

    Returns:
        The largest step and what makes it, and what to do; empty where it makes less than half of
        the change.
    """
    gaps, whole = {}, 0.0
    if _are_others_between(net, weighted):
        return "", ""
    for a, b in pairwise(weighted):
        made, given, after = net.layers[a].post, net.layers[b].input, net.layers[b].post
        if given is None or not (made.rms > 0 and given.rms > 0 and after.rms > 0):
            return "", ""
        gaps[a, b] = sign * math.log(given.rms / made.rms)
        whole += sign * math.log(after.rms / made.rms)
    least = LEAST_SHARE * abs(math.log(rate)) * len(gaps) if rate else 0.0
    if not gaps or sum(gaps.values()) < LEAST_SHARE * whole or not whole > least:
        return "", ""
    a, b = max(gaps, key=gaps.__getitem__)
    share = LEAST_SHARE * gaps[a, b]
    makers = [x for x in net.layers[a + 1 : b] if x.gain and sign * math.log(x.gain) >= share]
    factor = math.exp(sign * gaps[a, b])
    names = f"{net.layers[a].name!r} and {net.layers[b].name!r}"
    what = f"between {names} multiplies the root mean square by {number(factor)}"
    if makers:
        worst = max(makers, key=lambda x: sign * (x.gain or 0.0))
        return f"{worst.op} {what}", f"bring what {worst.op} does to 1, or put a norm after it"
    return (
        f"plain code {what}"
        + (", as a sum over neighbours, steps or channels does" if factor > 1 else ""),
        "divide by it there (take a mean in place of a sum), or put a norm after it",
    )


def _are_others_between(net: Net, weighted: Sequence[int]) -> bool:
    """Whether other layers with weights lie between these: branches, or parts of a block."""
    own = set(weighted)
    return any(dense(net.layers[i]) for i in range(weighted[0], weighted[-1]) if i not in own)


def rescaled_weights(net: Net, weighted: Sequence[int], rate: float) -> str:
    """Code that divides the weights of these layers by a factor; "" where it would not help.

    Where sums of branches lie between, the stream goes around the weights. Run twice, the code does
    what it does once.
    """
    layers = [net.layers[i] for i in weighted]
    inner = net.layers[weighted[0] : weighted[-1] + 1]
    is_around = any(x.op.startswith("add") for x in inner) or _are_others_between(net, weighted)
    is_known = all(x.parameter and x.weight and x.weight.std > 0 for x in layers)
    if not net.root or is_around or not is_known or not 0 < rate < math.inf:
        return ""
    ops = tuple(sorted({x.op for x in inner if x.weight} - {x.op for x in layers}))
    others = f" and layer.op not in {ops}" if ops else ""
    return (
        f"for layer in report.layers[{weighted[0]}:{weighted[-1] + 1}]:\n"
        f"    if layer.weight{others}:\n"
        f"        w = {net.root}.get_parameter(layer.parameter).data\n"
        f"        w.mul_(layer.weight.std / ({rate:.4g} * w.std()))"
    )
