"""One cause, one finding to act on: which findings only follow from another of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from initfast.diagnosis.findings import SEVERITIES, Finding
from initfast.diagnosis.function_calls import OVERFLOWS

BY_THEMSELVES = frozenset(("non_finite", "attention_logits"))
"""A NaN, or a softmax that passes nothing, is an error wherever it comes from."""


def led_by_causes(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, each after the one it follows from, which takes over its severity.

    Args:
        findings: worst first.

    Returns:
        As many, worst first; what follows says so, and its code begins with its cause's.
    """
    cause = {i: c for i in range(len(findings)) if (c := _cause(findings, i)) is not None}
    worst = [f.severity for f in findings]
    for i in cause:
        for c in _way(i, cause):
            worst[c] = min(worst[c], findings[i].severity, key=SEVERITIES.index)
    for i, c in cause.items():  # one cause is one error
        was_raised = SEVERITIES.index(findings[c].severity) > SEVERITIES.index(findings[i].severity)
        if was_raised and findings[i].rule not in BY_THEMSELVES and i not in cause.values():
            worst[i] = findings[c].severity
    made: list[Finding] = []
    for i, f in enumerate(findings):
        way = _way(i, cause)
        code = "\n".join(_together([findings[c].code for c in way[::-1]]))
        led = findings[way[1]] if len(way) > 1 else None
        follows = f"{led.rule.replace('_', ' ')} in {led.where}" if led else ""
        made.append(replace(f, severity=worst[i], code=code, follows=follows))
    order: dict[int, None] = {}
    for i in sorted(range(len(made)), key=lambda i: SEVERITIES.index(worst[i])):
        order |= dict.fromkeys(_way(i, cause)[::-1])
    return [made[i] for i in order]


def _together(codes: Sequence[str]) -> list[str]:
    """The codes that may run one after the other.

    Once a cause is cured, what was measured of the inputs behind it is no longer so: code that
    fits weights to them would undo the cure.
    """
    found: list[str] = []
    for code in codes:
        if code and code not in found and not (found and "layer.input.rms" in code):
            found.append(code)
    return found


def _way(i: int, cause: dict[int, int]) -> list[int]:
    """From a finding to what it follows from, and on to what that follows from."""
    way = [i]
    while way[-1] in cause and cause[way[-1]] not in way:
        way.append(cause[way[-1]])
    return way


def _cause(findings: Sequence[Finding], i: int) -> int | None:
    """The place of the finding that one follows from; None where it stands for itself."""
    follower = findings[i]
    for rule, leads in _LEADS.get(follower.rule, {}).items():
        for c, f in enumerate(findings):
            if f.rule == rule and f.severity != "info" != follower.severity and leads(f, follower):
                return c
    return None


def _beside(cause: Finding, follower: Finding) -> bool:
    """Whether they have a layer in common."""
    return cause.first <= follower.last and follower.first <= cause.last


def _covers(cause: Finding, follower: Finding) -> bool:
    """Whether the cause is on all of the follower's layers."""
    return cause.first <= follower.first and follower.last <= cause.last


def _before(cause: Finding, follower: Finding) -> bool:
    """Whether the cause begins no later than the follower ends."""
    return cause.first <= follower.last


def _behind(cause: Finding, follower: Finding) -> bool:
    """Whether the cause lies on the gradient's way to the follower."""
    return cause.last >= follower.first


def _overflows(cause: Finding, follower: Finding) -> bool:
    return follower.advice in OVERFLOWS and _before(cause, follower)


def _is_of_zeros(cause: Finding, follower: Finding) -> bool:
    is_of_zero = "divisor is 0" in follower.cause or "of 0 is infinite" in follower.cause
    return is_of_zero and _before(cause, follower)


def _is_cured(cause: Finding, follower: Finding) -> bool:
    """Whether the cause lies at the same layers, and its code does as much."""
    return bool(cause.code or not follower.code) and _beside(cause, follower)


def _explains(cause: Finding, follower: Finding) -> bool:
    """Whether nothing is known of a follower but that plain code does it, behind the cause.

    An exponential or a power makes much more of what is somewhat too large.
    """
    if follower.code or not _before(cause, follower):
        return False
    is_of_plain_code = follower.cause.startswith("plain code gives it")
    is_too_large = cause.value > cause.threshold and cause.last < follower.first
    return not follower.cause or (is_of_plain_code and is_too_large)


def _feeds(cause: Finding, follower: Finding) -> bool:
    """Whether the follower's own weights and biases are not at fault, but its input, behind."""
    is_its_own = "fan_in" in follower.cause or "bias" in follower.cause
    return not is_its_own and cause.first < follower.last and cause.first <= follower.first


def _between(cause: Finding, follower: Finding) -> bool:
    """Whether the cause begins before the follower, on its layers, and has code that cures it."""
    return bool(cause.code) and cause.first < follower.first <= cause.last


def _in_range(cause: Finding, follower: Finding) -> bool:
    """Whether the cause is where the numbers leave the dtype, or what their gradients come from."""
    is_gradient = follower.measured.startswith("the gradient")
    return _behind(cause, follower) if is_gradient else _beside(cause, follower)


_CUT = ("saturation", "symmetric_units")
"""What may leave the layers before it no gradient at all."""

_Leads = Callable[[Finding, Finding], bool]

_LEADS: dict[str, dict[str, _Leads]] = {
    "non_finite": {
        **dict.fromkeys(("explosion", "weight_scale", "input_scale", "recurrent"), _overflows),
        "dead_units": _is_of_zeros,
    },
    "initial_loss": {
        "loss_arguments": _beside,
        **dict.fromkeys(("explosion", "input_scale", "weight_scale"), _before),
        "vanishing": _beside,
    },
    "explosion": {"weight_scale": _explains, "symmetric_units": _covers},
    "vanishing": {"symmetric_units": _covers},
    "weight_scale": dict.fromkeys(("explosion", "vanishing"), _is_cured),
    "saturation": {
        "input_scale": _beside,
        **dict.fromkeys(("weight_scale", "symmetric_units"), _is_cured),
        "explosion": _feeds,
    },
    "input_scale": {"explosion": _between},
    "collapse": {"dead_units": _beside},
    "mean_drift": dict.fromkeys(("dead_units", "saturation", "collapse"), _beside),
    "dtype_range": {"explosion": _in_range, "vanishing": _beside},
    "attention_logits": {"weight_scale": _before, "input_scale": _before},
    "gradient_vanishing": dict.fromkeys(("vanishing", "dead_units"), _beside),
    "gradient_explosion": {"explosion": _beside},
    "constant_output": {
        **dict.fromkeys(("recurrent", "dead_units", "vanishing"), _beside),
        "weight_scale": _is_cured,
    },
    "no_gradient": dict.fromkeys((*_CUT, "constant_output", "dead_units"), _behind),
}
"""Of each rule the rules whose findings may be its cause, and when one is."""
