"""UnitMoments: the moments of each unit of a layer's output, and what they tell of its samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class UnitStatistics(NamedTuple):
    """What the units of a layer tell; see the properties of :class:`initfast.Layer`."""

    correlation: float | None = None
    batch_std: float | None = None
    unit_spread: float | None = None
    outlier_ratio: float | None = None


OF_UNITS = UnitStatistics._fields

Statistic = Callable[[np.ndarray], np.ndarray]
"""Of layers of as many units, ``[4, layers, units]``: a number for each, or NaN."""

_AT_ONCE = 1 << 13  # units, so that their numbers stay in a cache
_SAFE_EXPONENT = 250  # of numbers whose squares, and sums of them, are far from float64's ends


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

    def __init__(self, columns: np.ndarray, of_layers: UnitsOfLayers | None = None, i: int = 0):
        """These moments; where they are the i-th of several layers', all are told of at once."""
        self.columns = columns
        self._of_layers, self._i = of_layers or UnitsOfLayers([columns]), i

    @property
    def correlation(self) -> float | None:
        """See :attr:`initfast.Layer.correlation`."""
        return self._of_layers.told(_correlation)[self._i]

    @property
    def batch_std(self) -> float | None:
        """See :attr:`initfast.Layer.batch_std`."""
        return self._of_layers.told(_batch_std)[self._i]

    @property
    def unit_spread(self) -> float | None:
        """See :attr:`initfast.Layer.unit_spread`."""
        return self._of_layers.told(_unit_spread)[self._i]

    @property
    def outlier_ratio(self) -> float | None:
        """See :attr:`initfast.Layer.outlier_ratio`."""
        return self._of_layers.told(_outlier_ratio)[self._i]

    @property
    def statistics(self) -> UnitStatistics:
        """All four."""
        return UnitStatistics(*(getattr(self, name) for name in OF_UNITS))

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.statistics._asdict().items())
        return f"UnitMoments({self.columns.shape[1]} units: {told})"

    def __eq__(self, other: object) -> bool:
        """Whether they tell the same; what a file kept of others is compared, too."""
        if isinstance(other, UnitMoments):
            return self.statistics == other.statistics
        if other is None:  # what a file keeps of numbers that are all unknown
            return self.statistics == UnitStatistics()
        return self.statistics == other if isinstance(other, UnitStatistics) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def merge(self, other: UnitMoments) -> UnitMoments | None:
        """The moments of both streams of rows together; None where the units are not as many.

        Source:
            Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
            sample variances"; csrc/math/unit_moments.h has the same for the kernels.
        """
        if self.columns.shape != other.columns.shape:
            return None
        merged = self.columns + other.columns  # counts and m2 so far
        n, mean, _, largest = self.columns
        delta = other.columns[1] - mean
        step = delta * (other.columns[0] / np.maximum(merged[0], 1))
        merged[1] = (
            mean + step
        )  # of a unit without values in one of them, the other's: its own is 0
        merged[2] += step * n * delta
        np.maximum(largest, other.columns[3], out=merged[3])
        return UnitMoments(merged)


def sums_about(pivot: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What adds up over processes, each with other rows of the same units.

    Args:
        pivot: of each unit, one of the processes' means, the same on all of them. So the sums of a
            unit that is the same in every row are exactly 0, and a mean far from 0 costs no digits.
        columns: of :class:`UnitMoments`.

    Returns:
        ``[3, units]``: counts, the sums of the values less the pivot, and those of its squares.
    """
    count, mean, m2, _ = columns
    shift = np.where(count > 0, mean - pivot, 0.0)
    return np.stack([count, count * shift, m2 + count * shift * shift])


def from_sums_about(pivot: np.ndarray, sums: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """The columns of :class:`UnitMoments` of all rows, from the sums of all processes."""
    count, total, squares = sums
    shift = total / np.maximum(count, 1)
    mean = np.where(count > 0, pivot + shift, 0.0)
    return np.stack([count, mean, np.maximum(squares - shift * total, 0.0), largest])


def units_of_layers(columns: Mapping[int, np.ndarray]) -> dict[int, UnitMoments]:
    """The moments of many layers' units by whatever key they have: see :class:`UnitsOfLayers`."""
    together = UnitsOfLayers(list(columns.values()))
    return {key: UnitMoments(each, together, i) for i, (key, each) in enumerate(columns.items())}


class UnitsOfLayers:
    """The moments of many layers' units: what they tell is found for all when one is asked.

    One by one, numpy's calls would cost more than the numbers do.

    Attributes:
        columns: of each layer.
    """

    def __init__(self, columns: Sequence[np.ndarray]) -> None:
        self.columns = columns
        self._told: dict[Statistic, list[float | None]] = {}

    def told(self, statistic: Statistic) -> list[float | None]:
        """A statistic of each layer, in the same order; None where there is no number."""
        if (found := self._told.get(statistic)) is None:
            found = self._told[statistic] = self._find(statistic)
        return found

    @np.errstate(all="ignore")  # where there is no number
    def _find(self, statistic: Statistic) -> list[float | None]:
        by_width: dict[int, list[int]] = {}
        for i, columns in enumerate(self.columns):
            by_width.setdefault(columns.shape[1], []).append(i)
        found = np.full(len(self.columns), np.nan)
        for width, layers in by_width.items():
            step = max(1, _AT_ONCE // max(width, 1))
            for begin in range(0, len(layers), step) if width else ():
                some = layers[begin : begin + step]
                found[some] = statistic(np.stack([self.columns[i] for i in some], axis=1))
        return [None if x != x else x for x in found.tolist()]


def _scaled(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The count, mean and m2 of units, and what those of each layer were multiplied by.

    That is 1, but where squares of float64 would leave its range: there, a power of two.
    """
    count, mean, m2, largest = columns
    exponent = np.frexp(largest.max(1))[1]
    far = np.where(np.abs(exponent) > _SAFE_EXPONENT, -exponent, 0).clip(-1000, 1000)
    scale = np.ldexp(1.0, far)[:, None]
    return (
        (count, mean * scale, m2 * scale * scale, scale) if far.any() else (count, mean, m2, scale)
    )


def _correlation(columns: np.ndarray) -> np.ndarray:
    """The mean inner product of two different rows over the mean square norm of one.

    A unit of which some values are not finite counts with the pairs of its finite ones.
    """
    count, mean, m2, _ = _scaled(columns)
    has_pairs = count > 1
    variance = m2 / np.maximum(count, 1)
    of_means = np.where(has_pairs, mean * mean, 0.0).sum(1)
    among_pairs = np.where(has_pairs, variance / (count - 1), 0.0).sum(1)
    return (of_means - among_pairs) / (of_means + variance.sum(1))


def _batch_std(columns: np.ndarray) -> np.ndarray:
    count, _, m2, scale = _scaled(columns)
    units = np.count_nonzero(count, axis=1)
    variance = (m2 / np.maximum(count, 1)).sum(1) / units
    return np.where(count.max(1) > 1, np.sqrt(variance) / scale[:, 0], np.nan)


def _unit_spread(columns: np.ndarray) -> np.ndarray:
    """The std of the means over that of all values: both about their own mean, over n - 1."""
    count, mean, m2, _ = _scaled(columns)
    is_there = count > 0
    units, values = np.count_nonzero(count, axis=1), count.sum(1)
    of_means = mean - (mean.sum(1) / units)[:, None]
    of_values = mean - ((count * mean).sum(1) / values)[:, None]
    between = np.where(is_there, of_means * of_means, 0.0).sum(1) / (units - 1)
    whole = (m2 + count * of_values * of_values).sum(1) / (values - 1)
    return np.where((units > 1) & (whole > 0), np.sqrt(between / whole), np.nan)


def _outlier_ratio(columns: np.ndarray) -> np.ndarray:
    largest, units = columns[3], columns.shape[2]
    ordered = np.partition(largest, units // 2, axis=1)  # np.median takes ten times as long
    above = ordered[:, units // 2]
    below = above if units % 2 else ordered[:, : units // 2].max(1)
    return largest.max(1) / (below / 2 + above / 2)
