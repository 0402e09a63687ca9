"""At which call of a net the first NaN or infinity came, and what had grown before it."""

from __future__ import annotations

import itertools
import math
from collections import deque

from initfast.report.report import Report

MOST_KEPT = 4
"""Of so many calls before it the numbers are kept."""

JUMP = 10.0
"""A number has jumped where it grows by this factor from one measured call to the next."""


class FirstBadCall:
    """Looks at the reports of measured calls, one after the other, until one is not finite.

    Attributes:
        call: which one that was, the net's first being 1; None: there was none so far.
        note: a sentence about it; "" likewise.
        diverged: whether the net's weights had changed by then, and its numbers had grown.
    """

    def __init__(self) -> None:
        self.call: int | None = None
        self.note = ""
        self.diverged = False
        self._first: tuple[float, float] | None = None  # the scales of the first call
        self._before: deque[tuple[int, Report]] = deque(maxlen=MOST_KEPT)

    def add(self, call: int, report: Report) -> None:
        """Look at the report of a call."""
        if self.note:
            return
        self._before.append((call, report))
        if not has_nonfinite(report):
            self._first = self._first or _scales(report)
            return
        self.call = call
        self.diverged = self._has_diverged(report)
        if report.first_nonfinite is not None:
            name = report.first_nonfinite.name
            self.note = self._told(call, f"first in {name!r}" if name else "in its own code")
        else:
            self.note = self._told(call, "in the gradients of its backward")

    def _has_diverged(self, bad: Report) -> bool:
        if self._first is None or any(m.nonfinite for m in bad.inputs):
            return False
        before = self._before[-2][1]
        weights = [
            {x.name: x.weight for x in report.layers if x.weight} for report in (before, bad)
        ]
        is_other = any(weights[1].get(name) != weight for name, weight in weights[0].items())
        scales = zip(self._first, map(max, _scales(before), _scales(bad)), strict=True)
        return is_other and any(JUMP * first < last for first, last in scales)

    def _told(self, call: int, where: str) -> str:
        head = f"The first NaN or infinity came in call {call} of the net, {where}"
        rows = [(k, *_scales(report)) for k, report in self._before]
        self._before.clear()
        steps = [
            f"{what} grew {after[at] / before[at]:.3g} times from call {before[0]} to {after[0]}"
            for before, after in itertools.pairwise(rows)
            for at, what in ((1, "the gradients' norm"), (2, "the largest output"))
            if before[at] > 0 and JUMP < after[at] / before[at] < math.inf
        ]
        return "; ".join([head, *steps]) + "."


def has_nonfinite(report: Report) -> bool:
    """Whether a NaN or an infinity is in a report, gradients included."""
    return any(x.has_nonfinite or (x.grad is not None and x.grad.nonfinite > 0) for x in report)


def _scales(report: Report) -> tuple[float, float]:
    """The norm of the gradients at the weights, and the largest root mean square of an output."""
    grads = [x.weight_grad for x in report.layers if x.weight_grad is not None]
    norm = math.sqrt(sum(g.rms * g.rms * g.finite for g in grads))
    return norm, max((x.rms for x in report.layers if x.post.finite), default=0.0)
