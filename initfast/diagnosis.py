"""What is wrong with a net, from the numbers of its report: the table of checks, and diagnose()."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from initfast import depth_rules, layer_rules, nonfinite_rules, range_rules, weight_rules
from initfast.callables import NOTE as CALLABLE
from initfast.checked_net import Net, Rule
from initfast.findings import SEVERITIES, Finding, SkippedCheck
from initfast.ranks import WRAPPED
from initfast.thresholds import limits

if TYPE_CHECKING:
    from initfast.report import Report

RULES: dict[str, Rule] = {
    check.__name__: Rule((check.__doc__ or "").splitlines()[0], check)
    for check in (
        nonfinite_rules.non_finite,
        depth_rules.explosion,
        depth_rules.vanishing,
        depth_rules.gradient_explosion,
        depth_rules.gradient_vanishing,
        weight_rules.symmetric_units,
        layer_rules.collapse,
        layer_rules.dead_units,
        layer_rules.saturation,
        range_rules.dtype_range,
        layer_rules.mean_drift,
        weight_rules.weight_scale,
        layer_rules.unit_variance,
    )
}
"""Every check, by its name; of equally severe findings those of the first come first."""

OF_ANY_VALUES = frozenset(("non_finite", "symmetric_units", "weight_scale"))
"""Checks that do not need finite values."""


class Diagnosis(NamedTuple):
    """What :func:`diagnose` returns.

    Attributes:
        findings: worst first.
        skipped: the checks not made.
    """

    findings: list[Finding]
    skipped: list[SkippedCheck]


def diagnose(report: Report, thresholds: Mapping[str, float] | None = None) -> Diagnosis:
    """Check a report; ``report.findings`` is this with the usual thresholds.

    Args:
        report: what :func:`initfast.profile` returned.
        thresholds: what to use in place of some of
            :data:`initfast.thresholds.THRESHOLDS`, by name.

    Returns:
        The findings, worst first, and what was not checked and why.

    Raises:
        ValueError: no threshold has that name, or a value is not a number from zero up.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh())
        >>> report = initfast.profile(net, 100 * torch.randn(32, 64))
        >>> [finding.rule for finding in diagnose(report).findings][:1]
        ['saturation']
    """
    root = "net.module" if WRAPPED in report.notes else "net"
    root = "" if CALLABLE in report.notes else root
    net = Net(report.layers, report.inputs, limits(thresholds), root)
    findings: list[Finding] = []
    skipped: list[SkippedCheck] = []
    for name, rule in RULES.items():
        unsound = None if name in OF_ANY_VALUES else net.unsound
        if unsound is not None:
            skipped.append(SkippedCheck(name, unsound))
        for outcome in rule.check(net):
            if isinstance(outcome, Finding):
                findings.append(outcome)
            elif unsound is None:
                skipped.append(outcome)
    order = list(RULES)
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), order.index(f.rule), f.first))
    return Diagnosis(findings, skipped)
