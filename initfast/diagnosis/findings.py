"""Finding and SkippedCheck: what a check of a report found, and what it could not look at."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from initfast.stats.text import escape, printable, prose_width, shown

Severity = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""Worst first: training will fail; it will be slow or fragile; worth knowing, nothing to repair."""

MOST_SHOWN = 4
"""How many findings ``print(report)`` spells out."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a net, why, and what to do about it.

    Attributes:
        rule: the name of the check, a key of :data:`initfast.diagnosis.RULES`.
        severity: "error", "warning" or "info".
        first, last: the range of layers, both ends included, as places in ``report.layers``.
        names: the names of the first and the last of these layers.
        measured: what was measured, in words.
        value: the number that was compared.
        threshold: what it was compared with.
        source: whose rule it is.
        cause: why it is so, from the numbers at hand; empty where they do not tell.
        advice: what to do.
        code: the same as Python that runs where ``net``, ``report`` and ``initfast`` are in scope;
            empty where no such line helps.
        follows: the finding that this one follows from, in words; empty where it stands for itself.
        counted: what first and last count: "layer", or "parameter" of an audit's ``facts``.
    """

    rule: str
    severity: Severity
    first: int
    last: int
    names: tuple[str, str]
    measured: str
    value: float
    threshold: float
    source: str
    cause: str = ""
    advice: str = ""
    code: str = ""
    follows: str = ""
    counted: str = "layer"

    @property
    def where(self) -> str:
        """The layers or parameters, in words."""
        first, last = (repr(printable(name)) if name else "the net" for name in self.names)
        if self.first == self.last:
            return f"{self.counted} {self.first} ({first})"
        return f"{self.counted}s {self.first} to {self.last} ({first} to {last})"

    def __str__(self) -> str:
        head = f"{self.severity}: {self.rule.replace('_', ' ')} in {self.where}"
        parts = [_wrap(head, 0), _wrap(f"{self.measured} [{self.source}]")]
        parts += [_wrap(f"Follows from {self.follows}")] if self.follows else []
        parts += [_wrap(f"Why: {self.cause}")] if self.cause else []
        parts += [_wrap(f"Do: {self.advice}")] if self.advice else []
        parts += (
            [textwrap.indent(_broken(self.code, prose_width() - 8), " " * 8)] if self.code else []
        )
        return shown("\n".join(parts))

    @property
    def in_short(self) -> str:
        """As text; of what follows from another finding, not what to do."""
        if not self.follows:
            return str(self)
        return str(replace(self, cause="", advice="", code=""))

    def __repr__(self) -> str:
        return f"Finding({self.severity}: {self.rule.replace('_', ' ')} in {self.where})"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """The attributes as numbers, strings and lists."""
        return asdict(self) | {"names": list(self.names)}


class SkippedCheck(NamedTuple):
    """A check that was not made.

    Attributes:
        rule: its name.
        reason: why, and what would make it possible.
    """

    rule: str
    reason: str

    def __str__(self) -> str:
        return f"{self.rule.replace('_', ' ')}: {self.reason}"


def summary(findings: Sequence[Finding]) -> str:
    """The findings as text: the worst spelled out, the others named."""
    serious = [f for f in findings if f.severity != "info"]
    blocks = [finding.in_short for finding in serious[:MOST_SHOWN]]
    rest = [f"{f.severity} {f.rule}" for f in serious[MOST_SHOWN:]]
    rest += [f"info {f.rule}" for f in findings if f.severity == "info"]
    if rest:
        counts = ", ".join(
            name if rest.count(name) == 1 else f"{rest.count(name)} {name}"
            for name in dict.fromkeys(rest)
        )
        blocks.append(_wrap(f"also in report.findings: {counts.replace('_', ' ')}", 0))
    return "\n".join(blocks)


def summary_html(findings: Sequence[Finding]) -> str:
    """All findings as HTML, by severity: the errors and warnings open, the rest to be opened."""
    parts = []
    for severity in SEVERITIES:
        of_it = [f for f in findings if f.severity == severity]
        opened = "" if severity == "info" else " open"
        blocks = "".join(f._repr_html_() for f in of_it)
        heading = f"<summary>{counted(len(of_it), severity)}</summary>"
        parts += [f"<details{opened}>{heading}{blocks}</details>"] if of_it else []
    return "".join(parts)


def counted(count: int, severity: Severity) -> str:
    """So many findings, in words: "2 errors"."""
    plural = "" if count == 1 or severity == "info" else "s"
    return f"{count} {severity}{plural}"


def _broken(code: str, width: int) -> str:
    """The same code with the names broken that make lines too long.

    A name is an argument: within its parentheses, texts that follow each other are one.
    """

    def broken(line: str) -> str:
        names = re.findall(r"'[^'\\]+'", line)
        if len(line) <= width or not names:
            return line
        head, name, tail = line.partition(max(names, key=len))
        pad = " " * (len(line) - len(line.lstrip()) + 4)
        room = width - len(pad + tail) - 2
        if room < 1:  # a list of many names: no break of one makes it short
            return line
        pieces = textwrap.wrap(name[1:-1], room)
        return "\n".join([head, *(f"{pad}{piece!r}" for piece in pieces)]) + tail

    return "\n".join(map(broken, code.splitlines()))


def _wrap(text: str, indent: int = 4) -> str:
    pad = " " * indent
    return textwrap.fill(
        text,
        prose_width(),
        initial_indent=pad,
        subsequent_indent=pad or "    ",
        break_on_hyphens=False,
    )
