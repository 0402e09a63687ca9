"""Checks along the depth: does the signal, or its gradient, explode or vanish?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from initfast.diagnosis.advice import activation_of
from initfast.diagnosis.causes import batch_norms, cause_and_cure
from initfast.diagnosis.findings import Finding, Severity, SkippedCheck
from initfast.diagnosis.net import Net, Outcome, dense, spans
from initfast.diagnosis.trends import LEAST_POINTS, MOST_IN_ONE_STEP, Trend, trends
from initfast.stats.layer import Layer
from initfast.stats.text import number
from initfast.theory.mean_field import expectation


class Stretch(NamedTuple):
    """Layers along which something grows or falls steadily."""

    members: list[int]
    trend: Trend

    @property
    def span(self) -> tuple[int, int]:
        """Its first and last layer."""
        return self.members[0], self.members[-1]


def explosion(net: Net) -> Outcome:
    """The scale of the signal grows by a factor at every layer."""
    yield from _scale(net, "explosion", +1)


def vanishing(net: Net) -> Outcome:
    """The scale of the signal, or of what depends on the input, falls by a factor at every layer.

    The second is what a plain run of linear layers and activations does to a small difference
    between two inputs: it multiplies its square by fan_in Var(w) E[act'(z)^2] at each (Poole et al.
    2016, eq. 5; Schoenholz et al. 2017). Biases hide this from the std. Gradients go the same way.
    """
    yield from _scale(net, "vanishing", -1)


def _scale(net: Net, rule: str, sign: int) -> Outcome:
    if net.idle_norm is not None:
        yield _idle(net, rule, net.idle_norm)
        return
    if len(net.sequences) == 0:
        yield _short(rule)
        return
    least = net.log_limit("variance_ratio") / 2
    graded = [
        (_severity(net, s.trend), s)
        for s in _stretches(net, lambda x: x.std, sign)
        if sign * _log_ends(*(net.layers[i].std for i in s.span)) > least
    ]
    taken: list[tuple[int, int]] = []
    yield from _trending(net, rule, [(g, s) for g, s in graded if g not in (None, "info")], taken)
    if sign < 0:
        yield from _lost_differences(net, taken)
    yield from _trending(net, rule, [(g, s) for g, s in graded if g == "info"], taken)


def _short(rule: str) -> SkippedCheck:
    return SkippedCheck(rule, f"no {LEAST_POINTS} layers of one kind follow one another")


def _idle(net: Net, rule: str, norm: int) -> SkippedCheck:
    return SkippedCheck(
        rule,
        f"layer {norm} ({net.layers[norm].name!r}) is a batch norm in evaluation mode that has "
        "seen no data and passes its input on: profile the net after net.train()",
    )


def _trending(
    net: Net,
    rule: str,
    graded: Sequence[tuple[Severity | None, Stretch]],
    taken: list[tuple[int, int]],
) -> Outcome:
    """A finding for each stretch that does not overlap one before; adds what it takes."""
    for severity, stretch in graded:
        if severity is None or _overlaps(stretch.span, taken):
            continue
        taken.append(stretch.span)
        first, last = (net.layers[i].std for i in stretch.span)
        rate, ratio = stretch.trend.rate, math.exp(min(2 * abs(stretch.trend.log_ratio), 700))
        yield net.finding(
            rule,
            severity,
            stretch.span,
            "variance_ratio",
            ratio,
            f"the std {'grows' if rate > 1 else 'falls'} by {rate:.3g} a layer over "
            f"{len(stretch.members)} layers, from {number(first)} to {number(last)}",
            *cause_and_cure(net, stretch.members, 1 if rate > 1 else -1),
        )


def _severity(net: Net, trend: Trend) -> Severity | None:
    log_ratio = 2 * abs(trend.log_ratio)
    if log_ratio <= net.log_limit("variance_ratio"):
        return None
    is_mild = trend.steps + 1 < net.limits["short_net"] or abs(
        math.log(trend.rate)
    ) < net.log_limit("least_rate")
    if is_mild and log_ratio <= net.log_limit("short_variance_ratio"):
        return "info"
    return "error" if log_ratio > net.log_limit("severe_variance_ratio") else "warning"


def _stretches(net: Net, measure: Callable[[Layer], float], sign: int) -> list[Stretch]:
    """Where the measure grows (sign +1) or falls (-1) along any sequence, the worst first."""
    found = []
    for members in net.sequences:
        for trend in trends([measure(net.layers[i]) for i in members], net.log_limit("least_rate")):
            if trend.log_ratio * sign > 0:
                found.append(Stretch(members[trend.first : trend.last + 1], trend))
    return sorted(found, key=lambda s: -abs(s.trend.log_ratio) * _preference(net, s))


def _preference(net: Net, stretch: Stretch) -> float:
    """Of nearly equal stretches that of weights tells most: the others only follow."""
    return 1.5 if all(dense(net.layers[i]) for i in stretch.members) else 1.0


def _log_ends(first: float, last: float) -> float:
    """The logarithm of last / first."""
    return math.log(last / first) if first > 0 and last > 0 else math.nan


def _overlaps(span: tuple[int, int], taken: Sequence[tuple[int, int]]) -> bool:
    return any(a <= span[1] and span[0] <= b for a, b in taken)


# ---- what mean-field theory says of the weights ----


def _lost_differences(net: Net, taken: list[tuple[int, int]]) -> Outcome:
    for run in net.runs:
        logs = [_log_slope(net.layers[i]) for i in run[1:]]
        log_ratio = sum(logs) / 2
        is_jump = min(logs) < MOST_IN_ONE_STEP * sum(logs)  # a dead layer: no matter of the depth
        if log_ratio > net.log_limit("gradient_vanishing") or is_jump:
            continue
        if _overlaps((run[0], run[-1]), taken):
            continue
        taken.append((run[0], run[-1]))
        rate = math.exp(log_ratio / len(logs))
        yield net.finding(
            "vanishing",
            "error",
            (run[0], run[-1]),
            "gradient_vanishing",
            math.exp(max(log_ratio, -700)),
            f"by their weights and slopes, these layers shrink the difference between two inputs, "
            f"and gradients, by {rate:.3g} a layer; the std that remains comes from the biases",
            *cause_and_cure(net, run, -1),
        )


def _log_slope(layer: Layer) -> float:
    """The logarithm of fan_in Var(w) E[act'(z)^2], z normal with the moments measured."""
    if layer.weight is None:
        return 0.0
    square = 1.0
    act = activation_of(layer)
    if act is not None and layer.pre is not None and layer.pre.finite > 1:
        mean, std, slope = layer.pre.mean, layer.pre.std, act.slope
        square = expectation(lambda z: slope(mean + std * z).square())
    return math.log(max(layer.weight.scale * square, 1e-300))


# ---- gradients ----


def gradient_explosion(net: Net) -> Outcome:
    """Gradients grow by a factor at every layer on the way back."""
    yield from _gradients(net, "gradient_explosion", +1)


def gradient_vanishing(net: Net) -> Outcome:
    """Gradients fall by a factor at every layer on the way back."""
    yield from _gradients(net, "gradient_vanishing", -1)


def _gradients(net: Net, rule: str, sign: int) -> Outcome:
    if all(layer.grad is None for layer in net.layers):
        how = "predicted from the weights only" if sign > 0 else "see vanishing for what weights do"
        yield SkippedCheck(rule, f"no gradients were measured ({how}): pass loss= to profile")
        if sign > 0:
            yield from _chaos(net)
        return
    if net.idle_norm is not None:
        yield _idle(net, rule, net.idle_norm)
        return
    if len(net.sequences) == 0:
        yield _short(rule)
        return
    yield from _without_gradient(net, rule)
    taken: list[tuple[int, int]] = []
    for stretch in _stretches(net, _gradient_norm, -sign):
        log_ratio = -stretch.trend.log_ratio  # first over last
        bad = sign * log_ratio > sign * net.log_limit(rule)
        if not bad or _overlaps(stretch.span, taken):
            continue
        taken.append(stretch.span)
        first, last = (_gradient_norm(net.layers[i]) for i in stretch.span)
        rate = 1 / stretch.trend.rate
        by_norms = sign > 0 and all(
            net.layers[i].op.startswith("BatchNorm") for i in stretch.members
        )
        yield net.finding(
            rule,
            "error" if sign * log_ratio > 2 * sign * net.log_limit(rule) else "warning",
            stretch.span,
            rule,
            math.exp(max(min(log_ratio, 700), -700)),
            f"on the way back the gradient's norm {'grows' if sign > 0 else 'falls'} by "
            f"{rate:.3g} a layer over {len(stretch.members)} layers, from {number(last)} to "
            f"{number(first)}",
            *(batch_norms() if by_norms else cause_and_cure(net, stretch.members, sign)),
        )


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
    told = [f for f in explosion(net) if isinstance(f, Finding) and f.severity != "info"]
    for run in net.runs:
        if _overlaps((run[0], run[-1]), [(f.first, f.last) for f in told]):
            continue  # the signal grows with it: one finding is enough
        logs = [_log_slope(net.layers[i]) for i in run[1:]]
        log_ratio = sum(logs) / 2
        if log_ratio <= net.log_limit("gradient_explosion"):
            continue
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
