"""Signal: what theory knows of a tensor before it is computed."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from initfast.stats.moments import Moments
from initfast.theory.mesh import Mesh

_names = count()


class Bent(NamedTuple):
    """A function of normal variables: mesh.f of a normal variable of this mean and std.

    correlation: of the normal variables at two places.
    settled: whether a norm has made these variables.
    """

    mesh: Mesh
    mean: float
    std: float
    correlation: float
    settled: bool


@dataclass(frozen=True)
class Signal:
    """The law of a tensor over the draws of the weights.

    A row is a sample, or a sample at one place; its entries are units. The tensor's mean square is
    q = mean² + var; by chance, as the weights are drawn, it is another: ln q has the variance
    `chance`, and the mean ln(mean² + var) - chance / 2.

    Attributes:
        mean, var: of an element.
        skew, kurtosis: likewise; 0 of a normal one.
        common: the mean over pairs of rows of E x_i y_i / q: 1 where all rows are one.
        spread: the variance of that over the pairs.
        chance: the variance of ln q.
        rows: how many rows differ at most.
        parts: what its deviation from the mean is made of: independent tensors by their names,
            with what each adds, so that their squares make up var.
        settled: whether each unit's mean over the rows, or each row's over the units, is made 0,
            and the variance 1, as norms do.
        bent: what function of normal variables it is, if that is known.
    """

    mean: float
    var: float
    skew: float = 0.0
    kurtosis: float = 0.0
    common: float = 0.0
    spread: float = 0.0
    chance: float = 0.0
    rows: float = math.inf
    parts: Mapping[int, float] = field(default_factory=dict)
    settled: bool = False
    bent: Bent | None = None

    @property
    def square(self) -> float:
        """The mean square, without chance."""
        return self.mean * self.mean + self.var

    @property
    def is_held(self) -> bool:
        """Whether float64 holds its mean square, without which nothing is said of it."""
        return math.isfinite(self.square)

    @property
    def fourth(self) -> float:
        """The mean of the fourth power."""
        m, v = self.mean, self.var
        return m**4 + 6 * m * m * v + 4 * m * self.skew * v**1.5 + (self.kurtosis + 3) * v * v

    def pairs(self, count: int, units: int) -> tuple[float, float]:
        """Of how many elements, in rows of so many units: which part of the pairs of rows are one
        row twice; and the mean over the other pairs of the cosine's square."""
        twice = 1 / max(min(count / max(units, 1), self.rows), 1.0)
        return twice, min(self.common**2 + self.spread, 1.0)

    def scaled(self, factor: float) -> Signal:
        """It times a number."""
        parts = {name: factor * part for name, part in self.parts.items()}
        return replace(
            self, mean=factor * self.mean, var=factor**2 * self.var, parts=parts, bent=None
        )

    def covariance(self, other: Signal) -> float:
        """Of their elements at the same place."""
        return sum(part * other.parts.get(name, 0.0) for name, part in self.parts.items())

    def as_measured(self, m: Moments) -> Signal:
        """This signal with the moments that it has: nothing of them is left to chance.

        Its variance is NaN where the squares of small numbers are lost.
        """
        var = max(m.m2 / m.finite, 0.0)
        factor = math.sqrt(var / self.var) if self.var > 0 else 0.0
        q = var + m.mean * m.mean
        var = var if q >= sys.float_info.min or not m.largest else math.nan
        return replace(
            self.scaled(factor),
            mean=m.mean,
            var=var,
            skew=_finite(m.skew, 0.0),
            kurtosis=_finite(m.kurtosis, 3.0) - 3.0,
            common=max(self.common, m.mean * m.mean / q) if q else 0.0,
            chance=0.0,
            bent=self.bent,
        )


def _finite(value: float | None, otherwise: float) -> float:
    return value if value is not None and math.isfinite(value) else otherwise


def new_parts(var: float) -> dict[int, float]:
    """The parts of a tensor that has nothing to do with those before."""
    return {next(_names): math.sqrt(max(var, 0.0))}


def measured(m: Moments, units: int, rows: float = math.inf) -> Signal:
    """A tensor of which only the moments are known: its rows share the mean, and nothing else.

    Args:
        m: its moments.
        units: how many entries a row has.
        rows: how many rows differ at most.
    """
    var = max(m.m2 / m.finite, 0.0)
    fresh = Signal(0.0, var, parts=new_parts(var), rows=rows).as_measured(m)
    spread = (1 - fresh.common) ** 2 / max(units, 1)
    return replace(fresh, spread=spread)
