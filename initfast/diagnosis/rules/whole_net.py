"""Checks of the whole: each output against the net's own input, whatever lies between."""

from __future__ import annotations

import math
from collections.abc import Iterator

from initfast.diagnosis.advice import RIGHT, Cause, needed
from initfast.diagnosis.causes import cause_and_cure
from initfast.diagnosis.facts import dense, is_constant
from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net
from initfast.stats.layer import Layer
from initfast.stats.text import number

MOST_OF_ALL = 0.6
"""One layer alone is at fault where it makes this part of the growth, in logarithms."""


def whole_growth(net: Net) -> Iterator[Finding]:
    """One finding where an output is far larger than the net's input: no trend need lead there."""
    start, line = max(net.reference, 1.0), net.limits["overall_growth"]
    sizes = [x.rms / start if x.post.finite else 0.0 for x in net.sound]
    large = [i for i, size in enumerate(sizes) if size > line]
    if not large:
        return
    end = max(large, key=sizes.__getitem__)
    first, last = _span(net, sizes, end)
    yield net.finding(
        "explosion",
        "error" if sizes[end] > line**2 else "warning",
        (first, last),
        "overall_growth",
        sizes[end],
        f"the root mean square grows from {number(net.reference)} at the net's input to "
        f"{number(net.layers[end].rms)} at layer {end}",
        *_cause(net, first, last, +1),
    )


def whole_decay(net: Net) -> Iterator[Finding]:
    """One finding where what the net returns is far smaller than its input, and not zero."""
    start, line = min(net.reference, 1.0), net.limits["overall_decay"]
    sizes = [_spread(x) / start if x.post.finite > 1 and start > 0 else 0.0 for x in net.sound]
    small = [i for i, x in enumerate(net.sound) if x.is_returned and 0 < sizes[i] < line]
    if not small:
        return
    end = min(small, key=sizes.__getitem__)
    first, last = _span(net, [1 / s if s else 0.0 for s in sizes], end)
    yield net.finding(
        "vanishing",
        "error" if sizes[end] < line**2 else "warning",
        (first, last),
        "overall_decay",
        sizes[end],
        f"the std falls from {number(net.reference)} at the net's input to "
        f"{number(_spread(net.layers[end]))} at layer {end}, which the net returns",
        *_cause(net, first, last, -1),
    )


def _spread(layer: Layer) -> float:
    """The std of a layer's output; where it is one number to rounding, before the activation."""
    return layer.std if layer.std or layer.pre is None else layer.pre.std


def _span(net: Net, sizes: list[float], end: int) -> tuple[int, int]:
    """The layers that bring the size to what it is at the end: one alone, or those up to it."""
    steps: dict[int, float] = {}
    before = 1.0
    for i in range(end + 1):
        if sizes[i] > 0:
            steps[i], before = math.log(sizes[i] / before), sizes[i]
    most = max(steps, key=steps.__getitem__)
    if steps[most] > MOST_OF_ALL * math.log(sizes[end]):
        return most, most
    weighted = [i for i in range(end + 1) if dense(net.layers[i])]
    return (weighted[0], weighted[-1]) if weighted else (0, end)


def _cause(net: Net, first: int, last: int, sign: int) -> Cause:
    members = [i for i in range(first, last + 1) if is_trainable(net, i)]
    if not members:
        return Cause("", "bring its parameters, or what it multiplies, to a scale of about 1")
    if len(members) > 1:
        return cause_and_cure(net, members, sign)
    i, act = members[0], net.activation(members[0])
    weight = net.layers[i].weight
    off = weight.scale / needed(act) if weight else 1.0
    if sign > 0 and (plain := _of_plain_code(net, i)) is not None:
        return plain
    if 1 / RIGHT < off < RIGHT:
        return Cause("", "look at what comes before it, and at its bias")
    return Cause(
        f"fan_in × Var(w) is {off * needed(act):.3g}; {act.name if act else 'a linear layer'} "
        f"holds its scale at {needed(act):.3g}",
        "draw its weights anew",
        net.refill(i, i, act),
    )


def _of_plain_code(net: Net, i: int) -> Cause | None:
    """Where most of a layer's size is in its input, which plain code has made of less."""
    layer, start = net.layers[i], max(net.reference, 1.0)
    if layer.input is None or net.parents[i] is not None or not layer.input.rms > start:
        return None
    before = max((x.rms for x in net.sound[:i] if x.post.finite), default=start)
    if math.log(layer.input.rms / max(before, start)) < MOST_OF_ALL * math.log(layer.rms / start):
        return None
    return Cause(
        f"plain code gives it an input whose root mean square is {number(layer.input.rms)}; its "
        f"weights multiply that by {number(layer.rms / layer.input.rms)} only",
        "look at that code: an exponential, a power, a product, or a state that grows from step to "
        "step" + ("; the code fits the layer's weights to its input" if layer.is_returned else ""),
        net.refill_for_input(i) if layer.is_returned else "",
    )


def is_trainable(net: Net, i: int) -> bool:
    """Whether layer i is a linear layer or a convolution whose weight sets the scale."""
    return dense(net.layers[i]) and i not in net.normed and not is_constant(net.layers[i])
