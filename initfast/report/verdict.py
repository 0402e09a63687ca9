"""The verdict on a net: what was found, and what was not looked at; and the error of the same."""

from __future__ import annotations

from collections.abc import Sequence

from initfast.diagnosis.findings import SEVERITIES, Finding, Severity, SkippedCheck, counted

MOST_NAMED = 3
"""Of more checks that were not made the others are counted."""


def verdict(findings: Sequence[Finding], skipped: Sequence[SkippedCheck], loss: bool) -> str:
    """The report in a line.

    Args:
        findings: of the report.
        skipped: the checks that were not made.
        loss: whether gradients were measured.

    Returns:
        As "2 errors, 1 warning", "no errors or warnings; 2 checks were not made: pass loss= to
        judge gradients".
    """
    return "; ".join([found(findings), *_unchecked(skipped, loss)])


def found(findings: Sequence[Finding]) -> str:
    """How many errors and warnings there are: "2 errors, 1 warning", "no errors or warnings"."""
    serious: tuple[Severity, ...] = ("error", "warning")
    counts = {s: sum(f.severity == s for f in findings) for s in serious}
    if not any(counts.values()):
        return "no errors or warnings"
    shown = [counted(n, s) if n else "no errors" for s, n in counts.items() if n or s == "error"]
    return ", ".join(shown)


def _unchecked(skipped: Sequence[SkippedCheck], loss: bool) -> list[str]:
    rules = list(dict.fromkeys(check.rule.replace("_", " ") for check in skipped))
    if not rules:
        return []
    gradients = [] if loss else [rule for rule in rules if rule.startswith("gradient")]
    steps = ["recurrent"] if any('measure="recurrent"' in check.reason for check in skipped) else []
    others = [rule for rule in rules if rule not in gradients + steps]
    said = ["pass loss= to judge gradients"] if gradients else []
    said += ['pass measure="recurrent" to judge each step'] if steps else []
    more = [f"{len(others) - MOST_NAMED} more"] if len(others) > MOST_NAMED + 1 else []
    named = others[:MOST_NAMED] + more if more else others
    said += [f"{', '.join(named)} (report.skipped_checks says why)"] if others else []
    checks = "1 check was" if len(rules) == 1 else f"{len(rules)} checks were"
    return [f"{checks} not made: {'; '.join(said)}"]


class FindingsError(RuntimeError):
    """A net has findings of the level that was asked about.

    Attributes:
        findings: they, worst first.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = list(findings)

    def __reduce__(self) -> tuple[type[FindingsError], tuple[list[Finding]]]:
        return FindingsError, (self.findings,)


def check(findings: Sequence[Finding], level: Severity) -> None:
    """Raise unless there are none of that severity or worse.

    Raises:
        FindingsError: there are.
        ValueError: level is no severity.
    """
    if level not in SEVERITIES:
        raise ValueError(f"check: level is {level!r}; expected one of {', '.join(SEVERITIES)}")
    bad = [f for f in findings if SEVERITIES.index(f.severity) <= SEVERITIES.index(level)]
    if bad:
        raise FindingsError(bad)
