"""Outcome: what a run found, which every format writes in its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from initfast.cli.sources import Place
from initfast.diagnosis.findings import Finding
from initfast.report.comparison import Comparison
from initfast.report.report import Report
from initfast.testing.health import at_level


@dataclass(frozen=True)
class Outcome:
    """A profile of a net, and what it is compared with.

    Attributes:
        target: the net, as the user named it.
        report: what was measured.
        level: the severity from which on a finding fails the run; "never": none does.
        comparison: with the baseline, if there is one.
        place: where the code of a layer stands, by its name.
    """

    target: str
    report: Report
    level: str = "error"
    comparison: Comparison | None = None
    place: Callable[[str], Place | None] = lambda name: None

    @property
    def failures(self) -> list[Finding]:
        """The findings that fail the run."""
        return at_level(self.report.findings, self.level)

    @property
    def status(self) -> int:
        """The exit status: 1 where a finding or a change fails the run."""
        changed = self.comparison is not None and not self.comparison.is_same
        return int(changed or bool(self.failures))

    @property
    def verdict(self) -> str:
        """That on the report, and on what changed since the baseline, in one line."""
        text = self.report.verdict
        return text if self.comparison is None else f"{text}; baseline: {self.comparison.verdict()}"
