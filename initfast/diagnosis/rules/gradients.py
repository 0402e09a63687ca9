"""Checks along the depth, on the way back: does the gradient explode or vanish?"""

from __future__ import annotations

import math

from initfast.diagnosis.advice import Cause
from initfast.diagnosis.causes import batch_norms, cause_and_cure
from initfast.diagnosis.facts import dense, is_constant, spans
from initfast.diagnosis.findings import Finding, SkippedCheck
from initfast.diagnosis.net import Net, Outcome
from initfast.diagnosis.repeated_calls import contraction, injected
from initfast.diagnosis.rules.depth import (
    explosion,
    overlaps,
    stretches,
    without_trend,
)
from initfast.diagnosis.rules.detached import detached
from initfast.stats.layer import Layer
from initfast.stats.text import number


def gradient_explosion(net: Net) -> Outcome:
    """Gradients grow by a factor at every layer on the way back."""
    yield from _gradients(net, "gradient_explosion", +1)


def gradient_vanishing(net: Net) -> Outcome:
    """Gradients fall by a factor at every layer on the way back."""
    yield from _gradients(net, "gradient_vanishing", -1)


def _gradients(net: Net, rule: str, sign: int) -> Outcome:
    if all(layer.grad is None for layer in net.layers):
        how = "predicted from the weights only" if sign > 0 else "see vanishing for what weights do"
        what = 'pass loss= to profile, or backward="random"'
        yield SkippedCheck(rule, f"no gradients were measured ({how}): {what}")
        if sign > 0:
            yield from _chaos(net)
        return
    if (unfit := without_trend(net, rule)) is not None:
        yield unfit
        return
    yield from _without_gradient(net, rule)
    taken: list[tuple[int, int]] = []
    for stretch in stretches(net, _gradient_norm, -sign):
        log_ratio = -stretch.trend.log_ratio  # first over last
        bad = sign * log_ratio > sign * net.log_limit(rule)
        if not bad or overlaps(stretch.span, taken):
            continue
        taken.append(stretch.span)
        first, last = (_gradient_norm(net.layers[i]) for i in stretch.span)
        rate = 1 / stretch.trend.rate
        fades = sign < 0 and injected(net, stretch.members)
        is_severe = sign * log_ratio > 2 * sign * net.log_limit(rule)
        yield net.finding(
            rule,
            "info" if fades else "error" if is_severe else "warning",
            stretch.span,
            rule,
            math.exp(max(min(log_ratio, 700), -700)),
            f"on the way back the gradient's norm {'grows' if sign > 0 else 'falls'} by "
            f"{rate:.3g} a layer over {len(stretch.members)} layers, from {number(last)} to "
            f"{number(first)}",
            *(contraction() if fades else _cause(net, stretch.members, sign, rate)),
        )


def _cause(net: Net, members: list[int], sign: int, rate: float) -> Cause:
    by_norms = sign > 0 and all(net.layers[i].op.startswith("BatchNorm") for i in members)
    return batch_norms() if by_norms else cause_and_cure(net, members, sign, rate)


def no_gradient(net: Net) -> Outcome:
    """The loss's gradient is exactly zero at some layers: nothing that they change changes it."""
    if not net.outcome.is_finite or any(
        x.grad is not None and x.grad.nonfinite for x in net.layers
    ):
        return  # zeros beside NaN are what a mask has made of it
    yield from detached(net)
    known = [i for i, x in enumerate(net.sound) if x.grad is not None and x.grad.finite]
    zero = [i for i in known if _gradient_norm(net.layers[i]) <= net.limits["no_gradient"]]
    zero = [i for i in zero if not _waits(net, i)]
    if not zero:
        return
    if len(zero) == len(known):
        yield _no_gradient(net, zero, None)
        return
    following, cuts, zeros = -1, set(), set(zero)  # the next layer that has a gradient
    for i in reversed(known):
        if i in zeros:
            cuts.add(following)
        else:
            following = i
    for cut in sorted(cuts):
        before = [i for i in zero if i < cut] if cut >= 0 else zero
        if not before or _is_told(net, cut):
            continue
        yield _no_gradient(net, before, cut if cut >= 0 else None)
        return


def _waits(net: Net, i: int) -> bool:
    """Whether a layer, or the last one with a weight before it, waits for a factor of zero."""
    weighted = next((x for x in net.layers[i::-1] if x.parameter), None)
    return weighted is not None and weighted.parameter in net.outcome.waiting


def _is_told(net: Net, cut: int) -> bool:
    """Whether the layer behind the last without a gradient is of constant output.

    Zero weights are the usual start of a residual branch's last layer, of its last norm and of a
    head: these learn first. All else that makes a layer constant has a finding of its own.
    """
    layer = net.layers[cut]
    is_zero = is_constant(layer) and layer.weight is not None and not layer.weight.moments.mean
    return cut >= 0 and (not layer.post.m2 or is_zero)


def _no_gradient(net: Net, zero: list[int], cut: int | None) -> Finding:
    ends = [repr(net.layers[i].name) for i in (zero[0], zero[-1])]
    which = f"at {len(zero)} layers, {' to '.join(ends)}" if len(zero) > 1 else f"at {ends[0]}"
    where = "at every layer" if cut is None else f"{which}, and not at layer {cut}"
    between = (
        f"the loss{_value(net)} does not depend on what the net returns, or is flat there, as a "
        "hinge whose margin is kept, a clamp, or a mask over everything"
        if cut is None
        else f"between layer {zero[-1]} and layer {cut} ({net.layers[cut].name!r}) something has a "
        "slope of zero: round, sign, argmax, a clamp beyond its range, a comparison, a product "
        "with zero"
    )
    return net.finding(
        "no_gradient",
        "error",
        (zero[0], zero[-1]),
        "no_gradient",
        0.0,
        f"the gradient is exactly zero {where}",
        between,
        "see what the loss is made of, and whether detach() or an argmax lies on the way"
        if cut is None
        else "let the gradient pass there, as by a straight-through estimator (Bengio, Léonard & "
        "Courville 2013): y = x + (f(x) - x).detach()",
    )


def _value(net: Net) -> str:
    loss = net.outcome.loss
    return "" if loss is None else f", {number(loss)},"


def _without_gradient(net: Net, rule: str) -> Outcome:
    judged = {i for members in net.sequences for i in members if dense(net.layers[i])}
    for first, last in spans(i for i in judged if net.layers[i].grad is None):
        names = net.layers[first].name, net.layers[last].name
        which = f"layers {first} to {last} ({names[0]!r} to {names[1]!r}) are"
        which = f"layer {first} ({names[0]!r}) is" if first == last else which
        yield SkippedCheck(
            rule,
            f"{which} not judged: no gradient comes there, as where weights are frozen, under "
            "no_grad() or before detach()",
        )


def _gradient_norm(layer: Layer) -> float:
    """Of the gradient at the output, over all its elements."""
    grad = layer.grad
    return grad.rms * math.sqrt(grad.finite) if grad is not None and grad.finite else math.nan


def _chaos(net: Net) -> Outcome:
    for run in net.runs:
        logs = [net.log_slopes[i] for i in run[1:]]
        log_ratio = sum(logs) / 2
        if log_ratio <= net.log_limit("gradient_explosion"):
            continue
        told = [f for f in explosion(net) if isinstance(f, Finding) and f.severity != "info"]
        if overlaps((run[0], run[-1]), [(f.first, f.last) for f in told]):
            continue  # the signal grows with it: one finding is enough
        rate = math.exp(log_ratio / len(logs))
        yield net.finding(
            "gradient_explosion",
            "warning",
            (run[0], run[-1]),
            "gradient_explosion",
            math.exp(min(log_ratio, 700)),
            f"by their weights and slopes, these layers multiply a gradient on its way back by "
            f"{rate:.3g} each, predicted: {math.exp(min(log_ratio, 700)):.2g} over all",
            *cause_and_cure(net, run, +1),
        )
