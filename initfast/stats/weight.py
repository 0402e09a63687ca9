"""Weight: what a layer multiplies by."""

from __future__ import annotations

from dataclasses import dataclass

from initfast.stats.moments import Moments


@dataclass(frozen=True)
class Weight:
    """The weight of a layer.

    Attributes:
        fan_in: how many inputs each output sums.
        fan_out: how many outputs each input feeds.
        moments: of the weight's elements.
    """

    fan_in: int
    fan_out: int
    moments: Moments

    @property
    def std(self) -> float:
        """The standard deviation of the weight's elements."""
        return self.moments.std

    @property
    def scale(self) -> float:
        """The fan-in times the variance: by so much a linear layer multiplies the mean square."""
        return self.fan_in * self.moments.var
