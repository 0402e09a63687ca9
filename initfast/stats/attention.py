"""Attention: what the logits of a softmax over keys are like, where no mask hides them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from initfast.stats.as_dict import moments_from_dict
from initfast.stats.moments import Moments


@dataclass(frozen=True)
class Attention:
    """The logits of one softmax(q k^T), over all samples, heads and queries.

    Attributes:
        logits: the moments of the logits, scaled and with any bias added, that no mask hides.
        rows: how many rows (queries of a head) have two such logits at least, all finite.
        entropy: the mean over these rows of the entropy of the weights over the logarithm of how
            many keys the row sees: 1 where all weights are equal, 0 where one key has all the
            weight. NaN where there is no such row. Dropout comes after, and changes none of it.

    Example:
        >>> a, b = Attention(Moments(8), 4, 1.0), Attention(Moments(24), 12, 0.5)
        >>> a.merge(b).entropy
        0.625
    """

    logits: Moments
    rows: int
    entropy: float

    @property
    def largest_logit(self) -> float:
        """The largest finite logit; minus infinity where there is none."""
        return self.logits.max

    @property
    def logit_std(self) -> float:
        """The standard deviation of the finite logits."""
        return self.logits.std

    def merge(self, other: Attention) -> Attention:
        """Of the rows of both."""
        rows = self.rows + other.rows
        parts = [x.entropy * x.rows / rows for x in (self, other) if x.rows]
        logits = self.logits.merge(other.logits)
        return Attention(logits, rows, sum(parts) if parts else math.nan)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Attention:
        """The attention that was made plain, directly or through JSON."""
        logits = moments_from_dict(data["logits"])
        return cls(logits, int(data["rows"]), float(data["entropy"]))
