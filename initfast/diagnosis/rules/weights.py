"""Checks of weights: constant ones, and those of no usual variance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from initfast.diagnosis.advice import call, needed
from initfast.diagnosis.facts import dense, is_constant, spans, squares, squares_in_words
from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net, Outcome
from initfast.ops.activations import RECTIFIERS
from initfast.stats.text import number, plural

EPS = 1e-7
"""A hundredth of the eps that torch's norms add to the variance."""

BY_FAN_OUT = 8
"""So many times more may a weight have that an initialiser has made: one by the fan-out gives much
to a head of few classes."""


def symmetric_units(net: Net) -> Outcome:
    """A constant weight: all units compute the same, and may learn the same for ever."""
    source = net.parents
    weighted = [i for i, layer in enumerate(net.layers) if dense(layer)]
    constant = {i for i in weighted if is_constant(net.layers[i])}
    fed = {source[i]: i for i in weighted}
    found: dict[tuple[float, bool], list[int]] = defaultdict(list)
    for i in sorted(constant - {max(weighted, default=-1)}):
        layer = net.layers[i]
        value = layer.weight.moments.mean if layer.weight else 0.0
        for_ever = fed.get(i) in constant
        if value == 0 and not for_ever:
            act = net.activation(i)
            is_dead = act is not None and act.name in RECTIFIERS and not layer.post.rms
            if i in fed and not is_dead:
                yield _cut(net, i)
            continue  # else the usual start of a residual branch's last layer, or dead_units
        found[value, for_ever].append(i)
    for (value, for_ever), places in found.items():
        for members in _alike(net, places):
            yield _all_the_same(net, members, value, for_ever)


def _all_the_same(net: Net, members: list[int], value: float, for_ever: bool) -> Finding:
    stuck = "neither learns" if value == 0 else "their gradients are the same too, for ever"
    breaks = "only the next layer's weights tell them apart"
    where = f" of {len(members)} layers" if len(members) > 1 else ""
    return net.finding(
        "symmetric_units",
        "error" if for_ever else "warning",
        (members[0], members[-1]),
        "initialiser",
        value,
        f"all weights{where} are {number(value)}, so that a layer's units compute the same",
        f"the next layer's weights are constant as well: {stuck}" if for_ever else breaks,
        "draw the weights at random",
        net.refill_places(members),
    )


def _cut(net: Net, i: int) -> Finding:
    return net.finding(
        "symmetric_units",
        "warning",
        (i, i),
        "initialiser",
        0.0,
        "all weights are zero, and the next layer takes the output: nothing of the input passes",
        "the layers before it get no gradient until it has learnt",
        "draw the weights at random",
        net.refill(i, i, net.activation(i)),
    )


def weight_scale(net: Net) -> Outcome:
    """The variance of a weight is that of no usual initialiser."""
    odd, large, lost = [], {}, {}
    for i, layer in enumerate(net.layers):
        if not dense(layer) or layer.weight is None or not layer.weight.std > 0:
            continue
        known = net.initialiser(i) is not None
        if i in net.rescaled:
            continue
        scale = squares(layer.weight)
        off = scale / needed(net.activation(i))
        is_known = layer.input is not None and not layer.input.nonfinite
        reach = scale**0.5 * (layer.input.rms if layer.input and is_known else 1.0)
        is_wide = reach > net.limits["unit_factor"]  # else its input is scaled down to fit it
        most = net.limits["weight_variance"] * (BY_FAN_OUT if known else 1)
        if off > most and is_wide and i not in net.normed:
            large[i] = off
        elif known:
            continue
        elif _is_lost(net, i, off, reach):
            lost[i] = off
        else:
            odd.append(i)
    yield from _off(net, lost, "weight_lost", min, NEXT_TO_NOTHING)
    yield from _off(net, large, "weight_variance", max, "")
    if odd:
        yield net.finding(
            "weight_scale",
            "info",
            (odd[0], odd[-1]),
            "initialiser",
            float(len(odd)),
            f"the weights of {plural(len(odd), 'layer')} have the variance of no usual initialiser "
            "for their activation",
        )


def _is_lost(net: Net, i: int, off: float, reach: float) -> bool:
    """Whether a weight makes next to nothing of an input of about 1, and of the one that it has."""
    least = net.limits["weight_lost"]
    return off < least and reach**2 < least and _is_on_the_way(net, i)


def _is_on_the_way(net: Net, i: int) -> bool:
    """Whether what follows takes a layer's output alone: no residual sum, no head."""
    layer = net.layers[i]
    if layer.is_returned or layer.weight is None:
        return False
    if i in net.normed:  # less than its eps, or than a bias: nothing for it to normalise
        rms = layer.input.rms if layer.input else 1.0
        return layer.weight.scale * rms * rms < EPS
    if not any(dense(x) for x in net.layers[i + 1 :]):
        return False
    return i not in net.untaken or not any(x.op.startswith("add") for x in net.layers)


NEXT_TO_NOTHING = ": next to nothing of the signal, or of a gradient, passes"


def _off(
    net: Net,
    off: dict[int, float],
    limit: str,
    worst_of: Callable[..., int],
    consequence: str,
) -> Outcome:
    """A finding for each span of layers whose weights hold no scale, by how much at the worst.

    Spans in blocks that run the same are one.
    """
    for members in _alike(net, off):
        first, last, worst = members[0], members[-1], worst_of(members, key=off.__getitem__)
        act, weight = net.activation(worst), net.layers[worst].weight
        assert weight is not None
        others = f" (the worst of {len(members)})" if len(members) > 1 else ""
        yield net.finding(
            "weight_scale",
            "warning",
            (first, last),
            limit,
            off[worst],
            f"at layer {worst}{others} fan_in × {squares_in_words(weight)} is {off[worst]:.3g} "
            f"times the {needed(act):.3g} at which {act.name if act else 'a linear layer'} holds "
            f"its scale{consequence}",
            **_redrawn(net, members, call(act).removeprefix("initfast.init.")),
        )


def _redrawn(net: Net, members: list[int], initialiser: str) -> dict[str, str]:
    """What to do, and its code."""
    code = net.refill_places(members)
    if not code and (found := net.of_computed(members, net.activation(members[0]))):
        return {"advice": found[0], "code": found[1]}
    return {"advice": f"use {initialiser}{net.tied(members[0], members[-1])}", "code": code}


def _alike(net: Net, places: Iterable[int]) -> list[list[int]]:
    """Places in groups: neighbours, and those that play the same roles in other blocks."""
    role = {i: first for members in net.roles for first in [min(members)] for i in members}
    found: dict[frozenset[int], list[int]] = defaultdict(list)
    places = sorted(places)
    for first, last in spans(places):
        members = [i for i in places if first <= i <= last]
        found[frozenset(role.get(i, i) for i in members)] += members
    return list(found.values())
