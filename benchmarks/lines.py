"""A measured line, how it prints, and the geometric means of many."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

NOISE = 0.15
"""A line is noisy where its two ratios differ by more than this share."""


@dataclass(frozen=True)
class Line:
    """One measured line; times in seconds, failure is why there are none.

    best_ratio is that of the shortest times: see timing.py.
    """

    group: str
    name: str
    reference: str
    seconds: float | None = None
    reference_seconds: float | None = None
    ratio: float | None = None
    best_ratio: float | None = None
    target: float | None = None
    limit: float | None = None
    peer: bool = False
    failure: str = ""

    @property
    def noisy(self) -> bool:
        """Whether the machine was too busy to trust the ratio to NOISE."""
        if self.ratio is None or self.best_ratio is None:
            return False
        return abs(math.log(self.ratio / self.best_ratio)) > math.log(1 + NOISE)

    @property
    def passed(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio <= self.target

    def __str__(self) -> str:
        name = f"    {self.name}" if self.peer else self.name
        if self.failure:
            return f"{name:<42}  {self.failure}"
        target = "" if self.target is None else f"<= {self.target:.3g}"
        return (
            f"{name:<42}{duration(self.seconds):>10}  {self.reference:<17}"
            f"{duration(self.reference_seconds):>10}{self.ratio:>9.3g}{target:>10}  "
            f"{self._verdict():<10}{duration(self.limit):>10}{'  noisy' if self.noisy else ''}"
        ).rstrip()

    def _verdict(self) -> str:
        if self.passed is None or self.ratio is None or self.target is None:
            return ""
        return "PASS" if self.passed else f"MISS {100 * (self.ratio / self.target - 1):+.0f}%"


HEADER = (
    f"{'case':<42}{'time':>10}  {'reference':<17}{'time':>10}{'ratio':>9}{'target':>10}  "
    f"{'':<10}{'limit':>10}"
)


def duration(seconds: float | None) -> str:
    """Three or four digits and a unit; nothing for None."""
    if seconds is None:
        return ""
    scale, unit = (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "us")
    value = seconds * scale
    return f"{value:.{2 if value < 100 else 0}f} {unit}"


def geometric_means(lines: Iterable[Line]) -> dict[str, float]:
    """Of the ratios of each group of cases against each of their references, peers apart."""
    ratios = defaultdict(list)
    for line in lines:
        if line.ratio is not None and line.group != "import":
            who = line.name if line.peer else line.group
            reference = "torch's" if line.group == "act" else line.reference
            ratios[f"{who} / {reference}"].append(line.ratio)
    return {name: math.exp(sum(map(math.log, r)) / len(r)) for name, r in ratios.items()}
