"""How a number runs along the depth of a net: the trend.

Theil's and Sen's slope, the median of the slopes between all pairs of points, is not moved by the
few layers of a real net (a head, a narrow block) that lie off the line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LEAST_RATE = math.log(1.1)
"""A stretch of layers counts as growing where the logarithm grows by this much a layer.

A sum of independent residual branches grows as the square root of the depth: by less than this from
the fifth on.
"""

LEAST_POINTS = 3
"""A trend has at least so many points."""

MOST_IN_ONE_STEP = 0.75
"""Of the growth along a stretch, what one step may make up: beyond, it is a jump and no trend."""

ROOTS_SLOWING = 0.4
"""A sum of branches that begins near zero grows tenfold in variance, its second half less than this
part as fast as its first."""

MOST_POINTS = 400
"""Longer sequences are thinned out for the slope, which looks at all pairs."""


@dataclass(frozen=True)
class Trend:
    """A stretch along which a positive number grows or falls from step to step.

    Attributes:
        first, last: the ends of the stretch, as places in the sequence, both included.
        rate: the factor from one step to the next.
    """

    first: int
    last: int
    rate: float

    @property
    def steps(self) -> int:
        """How many steps the stretch has."""
        return self.last - self.first

    @property
    def log_ratio(self) -> float:
        """The logarithm of the factor from the first to the last."""
        return math.log(self.rate) * self.steps


def trends(values: Sequence[float], least_rate: float = LEAST_RATE) -> Iterator[Trend]:
    """The steady growth or decay of positive numbers, and the steepest stretch of each.

    The whole sequence counts where neither of its halves goes less than half as fast as the other:
    growth as a square root of the depth does not. The stretch is where growth exceeds the least
    rate by most in sum; it may slow down by more, as decay does that ends in what biases add, but
    not as a root that begins near zero does.

    Args:
        values: one a step; what is not positive and finite is passed over.
        least_rate: of the logarithm, a step.
    """
    kept = [i for i, v in enumerate(values) if v > 0 and math.isfinite(v)]
    if len(kept) < LEAST_POINTS:
        return
    at, logs = np.array(kept), np.log([values[i] for i in kept])
    if _is_steady(at, logs):
        yield Trend(kept[0], kept[-1], _exp(_slope(at, logs)))
    for sign in (1.0, -1.0):
        gains = sign * np.diff(logs)
        a, b = _steepest(gains - least_rate * np.diff(at))
        if b - a < 2 or gains[a:b].max() > MOST_IN_ONE_STEP * gains[a:b].sum():
            continue
        x, y = at[a : b + 1], logs[a : b + 1]
        if sign * (slope := _slope(x, y)) > 0 and (sign < 0 or _is_steady(x, y, ROOTS_SLOWING)):
            yield Trend(kept[a], kept[b], _exp(slope))


def _is_steady(at: np.ndarray, logs: np.ndarray, least: float = 0.5) -> bool:
    """Whether neither half of the points goes less than that part as fast as the other."""
    middle = len(logs) // 2
    halves = [_slope(at[half], logs[half]) for half in (slice(middle + 1), slice(middle, None))]
    slow, fast = sorted(halves, key=abs)
    return slow * fast > 0 and abs(slow) >= least * abs(fast)


def _exp(slope: float) -> float:
    return math.exp(min(slope, 700.0))


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Theil (1950) and Sen (1968): the median of the slopes between all pairs of points."""
    step = -(-len(y) // MOST_POINTS)
    x, y = x[::step], y[::step]
    i, j = _pairs(len(y))
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))


@lru_cache(maxsize=16)
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of all pairs of so many points."""
    i, j = np.triu_indices(count, 1)
    return i, j


def _steepest(gains: np.ndarray) -> tuple[int, int]:
    """The stretch of the largest sum (Kadane), as the points a and b that it runs between."""
    best, ends, total, start = 0.0, (0, 0), 0.0, 0
    for i, gain in enumerate(gains):
        if total <= 0:
            total, start = 0.0, i
        total += float(gain)
        if total > best:
            best, ends = total, (start, i + 1)
    return ends
