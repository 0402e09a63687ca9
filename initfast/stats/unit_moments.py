"""UnitMoments: the moments of each unit of a layer's output, and what they tell of its samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

OF_UNITS = ("correlation", "batch_std", "unit_spread", "outlier_ratio", "unit_moments")
"""What :meth:`UnitMoments.of_layer` gives."""


@dataclass(frozen=True, eq=False)
class UnitMoments:
    """The moments of each unit (feature, channel) over a layer's rows.

    A row is a sample; where there are tokens or positions, it is one of them.

    Attributes:
        columns: ``[4, units]`` float64, as :func:`initfast.ops.unit_moments` gives them: how many
            values of a unit are finite, their mean, the sum of their squared deviations from it
            (m2), and their largest magnitude.

    Example:
        >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
        >>> UnitMoments(initfast.ops.unit_moments(x)[1].numpy()).batch_std  # of 1 and 0
        0.7071067811865476
    """

    columns: np.ndarray

    @property
    def correlation(self) -> float | None:
        """The mean inner product of two different rows over the mean square norm of a row.

        It is not the mean cosine: rows of a large norm count more. 1 where all rows are the same,
        about 0 where they have nothing to do with each other. None for one row, or where all is
        zero. A unit of which some values are not finite counts with the pairs of its finite ones.

        Source:
            Poole et al. 2016, "Exponential expressivity in deep neural networks through transient
            chaos": the second order parameter of signal propagation.
        """
        count, mean, variance = self._of(2)
        of_means = float(mean @ mean)
        square_norm = of_means + float(variance.sum())
        inner_product = of_means - float((variance / (count - 1)).sum())
        return inner_product / square_norm if square_norm > 0 else None

    @property
    def batch_std(self) -> float | None:
        """The root of the mean over units of each one's variance over the rows.

        0 exactly where every row is the same. None where nothing is finite, and for one row.
        """
        count, _, variance = self._of(1)
        if count.max(initial=0) < 2:
            return None
        return math.sqrt(float(variance.sum()) / variance.size) * self._scale

    @property
    def mean_std(self) -> float | None:
        """The std of the units' means, over units - 1; None below two units."""
        _, means, _ = self._of(1)
        if means.size < 2:
            return None
        deviations = means - float(means.sum()) / means.size
        return math.sqrt(float(deviations @ deviations) / (means.size - 1)) * self._scale

    @property
    def outlier_ratio(self) -> float | None:
        """The largest magnitude of any unit over that of the median unit.

        Infinity where the median is 0 and the largest is not; None where all is zero.
        """
        if not self._top > 0:
            return None
        largest = self.columns[3] / self._scale
        below, above = (largest.size - 1) // 2, largest.size // 2
        # np.median takes ten times as long on few units.
        ordered = np.partition(largest, (below, above))
        median = float(ordered[below] + ordered[above]) / 2
        return self._top / self._scale / median if median else math.inf

    def of_layer(self, std: float) -> dict[str, Any]:
        """What a layer has of the units of its output, which has this std; see OF_UNITS."""
        mean_std = self.mean_std
        spread = mean_std / std if mean_std is not None and std > 0 else None
        numbers = self.correlation, self.batch_std, spread, self.outlier_ratio, self
        return dict(zip(OF_UNITS, numbers, strict=True))

    @cached_property
    def _top(self) -> float:
        """The largest magnitude of all."""
        return float(self.columns[3].max(initial=0.0))

    @cached_property
    def _scale(self) -> float:
        """A power of two near the largest magnitude: squares of what is divided by it are safe."""
        top = self._top
        return math.ldexp(1.0, min(max(math.frexp(top)[1], -1000), 1000)) if top > 0 else 1.0

    @cached_property
    def _scaled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every unit's count, mean and variance, in units of the scale."""
        count, mean, m2, _ = self.columns
        return count, mean / self._scale, m2 / np.maximum(count, 1) / self._scale / self._scale

    @cached_property
    def _fewest(self) -> float:
        """How many values of a unit are finite, of the unit that has the fewest."""
        return float(self.columns[0].min(initial=math.inf))

    def _of(self, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same of the units that have so many finite values or more."""
        if self._fewest >= rows:
            return self._scaled
        some = self.columns[0] >= rows
        count, mean, variance = self._scaled
        return count[some], mean[some], variance[some]

    def merge(self, other: UnitMoments) -> UnitMoments | None:
        """The moments of both streams of rows together; None where the units are not as many.

        Source:
            Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
            sample variances"; csrc/math/unit_moments.h has the same for the kernels.
        """
        if self.columns.shape != other.columns.shape:
            return None
        (n, mean, m2, largest), (other_n, other_mean, other_m2, others_largest) = (
            self.columns,
            other.columns,
        )
        total = n + other_n
        share = other_n / np.maximum(total, 1)
        delta = np.where((n > 0) & (other_n > 0), other_mean - mean, 0.0)
        merged = (
            total,
            np.where(n > 0, mean + delta * share, other_mean),
            m2 + other_m2 + delta * delta * n * share,
            np.maximum(largest, others_largest),
        )
        return UnitMoments(np.stack(merged))
