"""Why the scale changes along the depth, and what to do: from the weights and the activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from initfast.diagnosis.advice import (
    RIGHT,
    Act,
    Cause,
    activation_of,
    behaviour,
    call,
    needed,
    steady_std,
)
from initfast.diagnosis.facts import dense, is_constant
from initfast.diagnosis.net import Net
from initfast.diagnosis.refills import calls_of, named
from initfast.diagnosis.repeated_calls import is_repeated, repeated
from initfast.diagnosis.steps_between import between, rescaled_weights
from initfast.ops.activations import GATES

LEAST_PASSED = 0.5
"""An activation that passes on less of a difference's square cannot be deep, by any weights."""


def cause_and_cure(net: Net, members: Sequence[int], sign: int, rate: float | None = None) -> Cause:
    """Why the scale grows (sign +1) or falls (-1) along these layers.

    Args:
        net: the layers.
        members: the places of those along which it was found, in order.
        sign: its direction, or that of the gradient on its way back.
        rate: the factor from one of them to the next.
    """
    weighted = [i for i in members if dense(net.layers[i])]
    if len(weighted) < len(members) / 2:
        if sum(net.layers[i].op == "add" for i in members) > len(members) / 2:
            return _residual(sign)
        weighted = [i for i in range(members[0], members[-1] + 1) if _counts(net, i)]
    if is_repeated(net, weighted or members):
        return repeated(net, weighted or members, sign)
    if not weighted:
        return _unknown(sign)
    acts = [net.activation(i) for i in weighted]
    act = max(set(acts), key=acts.count)
    scales = sorted(_scale(net, i) for i in weighted)
    scale = scales[len(scales) // 2]
    known = _common_initialiser(net, weighted)
    span = _whole_run(net, weighted, act, scale, known)
    if at_any_scale := _at_any_scale(net, weighted, span, act):
        return at_any_scale
    off, name = scale / needed(act), act.name if act else "a linear layer"
    is_cause = off > RIGHT if sign > 0 else off < 1 / RIGHT
    if is_cause and sign > 0 and rate and off < rate:  # √off a layer is less than half of it
        is_cause = not between(net, weighted, sign, rate)[0]
    inner = net.layers[members[0] : members[-1] + 1]
    is_plain = all(dense(x) or activation_of(x) is not None for x in inner)
    what = f"{_scales(net, weighted, scales, known)}; {name} holds its scale at {needed(act):.3g}"
    depth = sum(_counts(net, i) for i in range(span[0], span[1] + 1))
    if act is not None and (is_cause or 1 / RIGHT <= off <= RIGHT):
        std = steady_std(act, depth)
        if std != 1:
            return _unsteady(net, span, act, std if is_plain else None, what)
    if is_cause:
        return _refill(net, span, act, what)
    if 1 / RIGHT <= off <= RIGHT and not between(net, weighted, sign, rate)[0]:
        if is_plain:
            return _too_deep(act, scale)
        if sign > 0:
            return _residual(sign)
    return between_weights(net, weighted, rate, f"not the weights: {what}", sign)


def _at_any_scale(
    net: Net, weighted: Sequence[int], span: tuple[int, int], act: Act | None
) -> Cause | None:
    """Why, where the variance of the weights is not what matters."""
    if all(is_constant(net.layers[i]) for i in weighted):
        same = "each weight is one number all over, by which it multiplies the sum of its inputs"
        return _refill(net, span, act, same)
    return None if act is None else _never(act)


def _counts(net: Net, i: int) -> bool:
    layer = net.layers[i]
    return dense(layer) and i not in net.normed and not is_constant(layer)


def _scale(net: Net, i: int) -> float:
    weight = net.layers[i].weight
    return 0.0 if weight is None else weight.scale


def _common_initialiser(net: Net, weighted: Sequence[int]) -> str | None:
    """What most of the weights were filled by; None where nothing fits."""
    return Counter(map(net.initialiser, weighted)).most_common(1)[0][0]


def _scales(net: Net, weighted: Sequence[int], scales: Sequence[float], known: str | None) -> str:
    """The weights' scales, the middle one where they differ, and what most were filled by."""
    count = sum(net.initialiser(i) == known for i in weighted)
    filled = known or "no known initialiser"
    of = "" if count == len(weighted) else f" on {count} of {len(weighted)} layers"
    least, middle, most = scales[0], scales[len(scales) // 2], scales[-1]
    is_one = most <= RIGHT * least
    spread = "" if is_one else f", the median of {least:.3g} to {most:.3g}"
    return f"fan_in × Var(w) is {middle:.3g}{spread} ({filled}{of})"


def _whole_run(
    net: Net, weighted: Sequence[int], act: Act | None, scale: float, name: str | None
) -> tuple[int, int]:
    """The first and last of the layers before and after that are filled alike."""
    every = [i for i in range(len(net.layers)) if _counts(net, i)]
    ends = [weighted[0], weighted[-1]]
    for end, ordered in ((0, every[::-1]), (1, every)):
        for i in ordered:
            if i >= ends[0] if end == 0 else i <= ends[1]:
                continue
            is_same = name is not None and net.initialiser(i) == name
            if not is_same and not 1 / RIGHT <= _scale(net, i) / max(scale, 1e-300) <= RIGHT:
                break
            if net.activation(i) != act:
                break
            ends[end] = i
    return ends[0], ends[1]


def _refill(net: Net, span: tuple[int, int], act: Act | None, cause: str) -> Cause:
    code = net.refill(*span, act)
    advice = "use " + (calls_of(code) or f"{named(call(act))} on layers {span[0]} to {span[1]}")
    if code:
        return Cause(cause, advice + net.tied(*span), code)
    if computed := net.of_computed(range(span[0], span[1] + 1), act):
        return Cause(cause, *computed)
    if any(net.layers[i].type for i in span):
        advice += "; their weights are computed: set the parameters that they are made of"
    return Cause(cause, advice)


# ---- what no weights mend ----


def _never(act: Act) -> Cause | None:
    """Where no weights of mean zero let an activation be so deep."""
    if act.name in GATES:
        return Cause(
            f"{act.name}'s slope is at most 1/4, and its mean of 1/2 is passed on as a constant",
            "use tanh or ReLU, or put a norm before each activation",
        )
    found = behaviour(act)
    if found.passes < LEAST_PASSED:
        return Cause(
            f"where {act.name} holds its scale it passes on {found.passes:.2g} of the square of a "
            "difference, and of a gradient: what it passes on is its mean, a constant",
            "use tanh or ReLU, or put a norm before each activation",
        )
    return None


def _unsteady(net: Net, span: tuple[int, int], act: Act, std: float | None, what: str) -> Cause:
    """Where an activation lets a std of 1 run away, and holds another, if any."""
    cause = (
        f"{what}, and not for so long: there a deviation of the signal's variance grows by "
        f"{behaviour(act).drifts:.3g} a layer, either way"
    )
    advice, first = "put a norm before each activation, or add residual connections", span[0]
    start = net.layers[first].input
    if std is None or start is None or not start.rms > 0:
        return Cause(cause, advice)
    scale = behaviour(act, std).needed
    advice += (
        f"; without, bring the pre-activations to a std of {std:g} in layer {first}, which "
        f"{act.name} holds at {scale:.4g}: use variance_scaling_({scale:.4g}) on layers "
        f"{first + 1} to {span[1]}"
    )
    return Cause(cause, advice, net.refill(*span, act, std))


def _too_deep(act: Act | None, scale: float) -> Cause:
    return Cause(
        f"fan_in × Var(w) is {scale:.3g}, which suits {act.name if act else 'linear layers'}: what "
        "is left is the depth itself",
        "add residual connections or norms",
    )


def _residual(sign: int) -> Cause:
    if sign < 0:
        return _unknown(sign)
    return Cause(
        "the layers' weights alone do not do this: what is added to the signal between them, "
        "or multiplied with it, does",
        "normalise the input of each residual branch, scale the branches by 1 / √(their "
        "number), or start the last weight of each at zero (Zhang, Dauphin & Ma 2019, Fixup)",
    )


def between_weights(
    net: Net, weighted: Sequence[int], rate: float | None, cause: str, sign: int
) -> Cause:
    """Where the weights do not do it: what lies between them, named where it was measured."""
    step, advice = between(net, weighted, sign, rate)
    advice = advice or _unknown(sign).advice
    code = "" if rate is None else rescaled_weights(net, weighted, rate)
    if step:
        cause = f"{cause}; {step}"
    if code:
        advice += f"; the code divides these layers' weights by {rate:.3g}, which offsets it"
    return Cause(cause, advice, code)


def _unknown(sign: int) -> Cause:
    change = "grow" if sign > 0 else "fall"
    return Cause(
        f"not known: the weights that were measured do not tell why the numbers {change}",
        "look at what lies between these layers; a norm before each would hold the scale",
    )


def batch_norms() -> Cause:
    """Of a gradient that grows through batch norms."""
    return Cause(
        "batch norm itself: before ReLU it multiplies gradients by √(π / (π - 1)) = 1.21 a layer "
        "(Yang et al. 2019, A Mean Field Theory of Batch Normalization)",
        "add residual connections, or use layer norm",
    )
