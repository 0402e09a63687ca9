"""Histogram: how many numbers lie where, in bins that fit any scale and merge exactly.

Bins of equal width would have to be chosen for a scale, and those of two batches would not fit each
other. So a bin is half of an octave, a power of two of magnitudes, as the exponent and the first
bit of the mantissa tell it: its ends are fixed numbers, the same for every batch. Kept are the 32
below the largest magnitude, of each sign: 16 octaves, a factor of 65536. What lies below is counted
as near zero. A histogram with a larger magnitude only moves that border up, past whole bins, so
merging gives what counting all numbers at once would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

HALF_OCTAVES = 32
"""Bins of each sign."""

_LAST = 2 * 1024
"""The last half octave whose end a float64 holds."""


def upper_end(half_octave: int) -> float:
    """The largest magnitude in a half octave: 0.75 · 2^e of number 2 e, 2^e of 2 e + 1.

    Example:
        >>> [upper_end(i) for i in (-1, 0, 1, 2, 3)]
        [0.5, 0.75, 1.0, 1.5, 2.0]
    """
    if half_octave > _LAST:
        return math.inf
    return math.ldexp(1.0 if half_octave % 2 else 0.75, half_octave // 2)


@dataclass(frozen=True)
class Histogram:
    """The finite numbers of a tensor, counted in 64 bins.

    Attributes:
        top: which half octave the last bin is: :func:`upper_end` tells its end.
        counts: of the 64 bins, from the most negative to the most positive.
        near_zero: how many numbers are zero, or less than 1/65536 of the largest bin's end.

    Example:
        >>> Histogram.of({1: 5, -8: 1}, {1: 3}, zeros=2).total
        11
    """

    top: int = 0
    counts: tuple[int, ...] = (0,) * (2 * HALF_OCTAVES)
    near_zero: int = 0

    @classmethod
    def of(
        cls, negative: Mapping[int, int], positive: Mapping[int, int], zeros: int = 0
    ) -> Histogram:
        """From the counts of negative and of positive numbers by half octave, and of zeros."""
        found = [i for counts in (negative, positive) for i, count in counts.items() if count]
        top = max(found, default=0)
        kept = range(top - HALF_OCTAVES + 1, top + 1)
        counts = [negative.get(i, 0) for i in reversed(kept)] + [positive.get(i, 0) for i in kept]
        total = zeros + sum(negative.values()) + sum(positive.values())
        return cls(top, tuple(counts), total - sum(counts))

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return sum(self.counts) + self.near_zero

    @property
    def edges(self) -> list[float]:
        """The 66 ends of the 65 bins from left to right, the one around zero in the middle."""
        ends = [upper_end(i) for i in range(self.top - HALF_OCTAVES, self.top + 1)]
        return [-end for end in reversed(ends)] + ends

    @property
    def densities(self) -> list[float]:
        """The share of the numbers in each of the 65 bins, over its width; zeros if there are none.

        Example:
            >>> ones = Histogram.of({}, {1: 4})
            >>> ones.densities[-1] * (ones.edges[-1] - ones.edges[-2])
            1.0
        """
        counts, total = self._from_left, self.total or 1
        edges = self.edges
        widths = [high - low for low, high in pairwise(edges)]
        return [c / total / w if w else 0.0 for c, w in zip(counts, widths, strict=True)]

    @property
    def _from_left(self) -> Sequence[int]:
        return (*self.counts[:HALF_OCTAVES], self.near_zero, *self.counts[HALF_OCTAVES:])

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both tensors' numbers, exactly."""
        negative: dict[int, int] = {}
        positive: dict[int, int] = {}
        for each in (self, other):
            for i, count in enumerate(each.counts[HALF_OCTAVES:]):
                at = each.top - HALF_OCTAVES + 1 + i
                positive[at] = positive.get(at, 0) + count
            for i, count in enumerate(each.counts[:HALF_OCTAVES]):
                negative[each.top - i] = negative.get(each.top - i, 0) + count
        return Histogram.of(negative, positive, self.near_zero + other.near_zero)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Histogram:
        """The histogram that was made plain, directly or through JSON."""
        return cls(int(data["top"]), tuple(map(int, data["counts"])), int(data["near_zero"]))
