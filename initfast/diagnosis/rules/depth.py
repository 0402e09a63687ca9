"""Checks along the depth: does the signal explode or vanish?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from initfast.diagnosis.causes import cause_and_cure
from initfast.diagnosis.facts import dense
from initfast.diagnosis.findings import Severity, SkippedCheck
from initfast.diagnosis.net import Net, Outcome
from initfast.diagnosis.rules.whole_net import whole_decay, whole_growth
from initfast.diagnosis.trends import LEAST_POINTS, MOST_IN_ONE_STEP, Trend, trends
from initfast.stats.layer import Layer
from initfast.stats.text import number


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
    if (unfit := without_trend(net, rule)) is not None:
        yield unfit
        if net.idle_norm is None:
            yield from whole_growth(net) if sign > 0 else whole_decay(net)
        return
    least = net.log_limit("variance_ratio") / 2
    graded = [
        (_severity(net, s.trend), s)
        for s in stretches(net, lambda x: x.std, sign)
        if sign * _log_ends(*(net.layers[i].std for i in s.span)) > least
    ]
    taken: list[tuple[int, int]] = []
    yield from _trending(net, rule, [(g, s) for g, s in graded if g not in (None, "info")], taken)
    if sign < 0:
        yield from _lost_differences(net, taken)
    if not taken:
        yield from whole_growth(net) if sign > 0 else whole_decay(net)
    yield from _trending(net, rule, [(g, s) for g, s in graded if g == "info"], taken)


def without_trend(net: Net, rule: str) -> SkippedCheck | None:
    """Why no trend can be looked for in a net; None where one can."""
    if net.idle_norm is not None:
        return net.idle(rule)
    if not net.sequences:
        return SkippedCheck(rule, f"no {LEAST_POINTS} layers of one kind follow one another")
    return None


def _trending(
    net: Net,
    rule: str,
    graded: Sequence[tuple[Severity | None, Stretch]],
    taken: list[tuple[int, int]],
) -> Outcome:
    """A finding for each stretch that does not overlap one before; adds what it takes."""
    for severity, stretch in graded:
        if severity is None or overlaps(stretch.span, taken):
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


def stretches(net: Net, measure: Callable[[Layer], float], sign: int) -> list[Stretch]:
    """Where the measure grows (sign +1) or falls (-1) along any sequence, the worst first."""
    found = [
        Stretch(members[trend.first : trend.last + 1], trend)
        for members in net.sequences
        for trend in _trends(
            tuple(measure(net.layers[i]) for i in members), net.log_limit("least_rate")
        )
        if trend.log_ratio * sign > 0
    ]
    return sorted(found, key=lambda s: -abs(s.trend.log_ratio) * _preference(net, s))


@lru_cache(maxsize=1024)  # asked for growth and for decay, one after the other
def _trends(values: tuple[float, ...], least_rate: float) -> list[Trend]:
    return list(trends(values, least_rate))


def _preference(net: Net, stretch: Stretch) -> float:
    """Of nearly equal stretches that of weights tells most: the others only follow."""
    return 1.5 if all(dense(net.layers[i]) for i in stretch.members) else 1.0


def _log_ends(first: float, last: float) -> float:
    """The logarithm of last / first."""
    return math.log(last / first) if first > 0 and last > 0 else math.nan


def overlaps(span: tuple[int, int], taken: Sequence[tuple[int, int]]) -> bool:
    """Whether a span has a layer in common with one of those taken."""
    return any(a <= span[1] and span[0] <= b for a, b in taken)


# ---- what mean-field theory says of the weights ----


def _lost_differences(net: Net, taken: list[tuple[int, int]]) -> Outcome:
    for run in net.passages:
        logs = [net.log_slopes[i] for i in run[1:]]
        log_ratio = sum(logs) / 2
        is_jump = min(logs) < MOST_IN_ONE_STEP * sum(logs)  # a dead layer: no matter of the depth
        if log_ratio > net.log_limit("gradient_vanishing") or is_jump:
            continue
        if overlaps((run[0], run[-1]), taken):
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
