"""What is wrong with a net, from the numbers of its report: the table of checks, and diagnose()."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from initfast.diagnosis.consequences import led_by_causes
from initfast.diagnosis.findings import SEVERITIES, Finding, SkippedCheck
from initfast.diagnosis.net import Net, Rule
from initfast.diagnosis.rules import (
    attention,
    constant,
    departure,
    depth,
    dtype_range,
    gradients,
    inputs,
    layers,
    loss,
    loss_arguments,
    nonfinite,
    recurrent,
    weights,
)
from initfast.errors import kind_of
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.outcome import RunOutcome
from initfast.thresholds import limits

RULES: dict[str, Rule] = {
    check.__name__: Rule((check.__doc__ or "").splitlines()[0], check)
    for check in (
        nonfinite.non_finite,
        loss.initial_loss,
        loss_arguments.loss_arguments,
        depth.explosion,
        depth.vanishing,
        gradients.no_gradient,
        gradients.gradient_explosion,
        gradients.gradient_vanishing,
        inputs.input_scale,
        weights.symmetric_units,
        constant.constant_output,
        inputs.constant_input,
        inputs.drowned_embedding,
        layers.collapse,
        layers.dead_units,
        layers.saturation,
        attention.attention_logits,
        dtype_range.dtype_range,
        recurrent.recurrent,
        constant.one_direction,
        layers.mean_drift,
        weights.weight_scale,
        departure.departure,
        layers.unit_variance,
    )
}
"""Every check, by its name; of equally severe findings those of the first come first."""

OF_ANY_VALUES = frozenset(("non_finite", "symmetric_units", "weight_scale", "attention_logits"))
"""Checks that do not need finite values."""


class Diagnosis(NamedTuple):
    """What :func:`diagnose` returns.

    Attributes:
        findings: worst first.
        skipped: the checks not made.
    """

    findings: list[Finding]
    skipped: list[SkippedCheck]


class Profiled(Protocol):
    """What is diagnosed: a report, or whatever else has its layers."""

    @property
    def layers(self) -> Sequence[Layer]:
        """In execution order."""

    @property
    def inputs(self) -> Sequence[Moments]:
        """The moments of the net's own inputs."""

    @property
    def outcome(self) -> RunOutcome:
        """What the run came to beside its layers."""

    @property
    def root(self) -> str:
        """What the layers' names are paths in, as code; "" where nothing has them all."""


def diagnose(report: Profiled, thresholds: Mapping[str, float] | None = None) -> Diagnosis:
    """Check a report; ``report.findings`` is this with the usual thresholds.

    Args:
        report: what :func:`initfast.profile` returned.
        thresholds: what to use in place of some of
            :data:`initfast.thresholds.THRESHOLDS`, by name.

    Returns:
        The findings, worst first, and what was not checked and why.

    Raises:
        TypeError: report is none, or thresholds no mapping.
        ValueError: no threshold has that name, or a value is not a number from zero up.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh())
        >>> report = initfast.profile(net, 100 * torch.randn(32, 64))
        >>> [finding.rule for finding in diagnose(report).findings][:2]
        ['input_scale', 'saturation']
    """
    if not hasattr(report, "layers"):
        raise TypeError(f"diagnose: report is {kind_of(report)}; expected a Report")
    if not (thresholds is None or isinstance(thresholds, Mapping)):
        raise TypeError(f"diagnose: thresholds is {kind_of(thresholds)}; expected a dict")
    net = Net(report.layers, report.inputs, limits(thresholds), report.root, report.outcome)
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
    return Diagnosis(led_by_causes(findings), skipped)
