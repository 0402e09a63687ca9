"""assert_healthy(): a net's initialisation as a test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from initfast.diagnosis.diagnosing import RULES
from initfast.diagnosis.findings import SEVERITIES, Finding, Severity
from initfast.errors import kind_of
from initfast.profiling.arguments import NO_TARGETS
from initfast.profiling.profile import profile
from initfast.report.report import Report
from initfast.report.table import Table

_MOST_ROWS = 8
"""How many rows of the table stand in the error."""


def assert_healthy(
    net: Callable[..., Any],
    x: Any,
    *,
    loss: Callable[..., Any] | None = None,
    targets: Any = NO_TARGETS,
    level: Severity = "error",
    ignore: Collection[str] = (),
) -> Report:
    """Profile a net and raise AssertionError where a finding is as severe as the level.

    Args:
        net: as :func:`initfast.profile` takes it.
        x: the input, likewise.
        loss: makes a scalar of the output, so that gradients are judged too.
        targets: loss is called as loss(output, targets).
        level: "error"; "warning" takes errors and warnings; "info" everything.
        ignore: names of checks, as `Finding.rule` has them: "unit_variance" or "unit variance".

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: its text is the findings, worst first, and the rows that they are about.
        ValueError: level is no severity, or ignore names no check.
        TypeError: ignore has something that is no name.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
        >>> report = initfast.assert_healthy(net, torch.randn(32, 64))
    """
    _check_level(level)
    ignored = _rules(ignore)
    report = profile(net, x, loss=loss, targets=targets)
    found = [f for f in at_level(report.findings, level) if f.rule not in ignored]
    if found:
        raise AssertionError(explanation(report, found))
    return report


def at_level(findings: Sequence[Finding], level: str) -> list[Finding]:
    """The findings that are at least as severe; none for "never"."""
    worst = SEVERITIES[: SEVERITIES.index(level) + 1] if level in SEVERITIES else ()
    return [finding for finding in findings if finding.severity in worst]


def explanation(report: Report, findings: Sequence[Finding]) -> str:
    """The findings, and the first and last rows that each is about."""
    ends = [i for finding in findings for i in (finding.first, finding.last)]
    rows = sorted(list(dict.fromkeys(ends))[:_MOST_ROWS])
    table = Table([report[i] for i in rows]).text()
    return "\n".join([*map(str, findings), "", table])


def _check_level(level: str) -> None:
    if level not in SEVERITIES:
        known = ", ".join(map(repr, SEVERITIES))
        raise ValueError(f"assert_healthy: level is {level!r}; expected one of {known}")


def _rules(names: Collection[str]) -> set[str]:
    """The names of checks, with blanks or underscores."""
    given = [names] if isinstance(names, str) else names
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"assert_healthy: ignore has {kind_of(name)}; expected names of checks")
    rules = {name.replace(" ", "_") for name in given}
    unknown = sorted(rules - RULES.keys())
    if unknown:
        raise ValueError(
            f"assert_healthy: ignore has {unknown[0]!r}, which is no check; expected some of "
            f"{', '.join(RULES)}"
        )
    return rules
