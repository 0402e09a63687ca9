"""OutputStatistics: what the moments of a layer's output tell, by name."""

from __future__ import annotations

from initfast.stats.moments import Moments
from initfast.stats.unit_moments import UnitMoments, UnitStatistics


class OutputStatistics:
    """What a layer tells of its output.

    Attributes:
        post: the moments of the output.
        unit_moments: those of its units, or what they told before they were left out of a file;
            None where they were not measured.
    """

    post: Moments
    unit_moments: UnitMoments | UnitStatistics | None

    @property
    def mean(self) -> float:
        """The mean of the output."""
        return self.post.mean

    @property
    def std(self) -> float:
        """The standard deviation of the output."""
        return self.post.std

    @property
    def rms(self) -> float:
        """The root mean square of the output."""
        return self.post.rms

    @property
    def min(self) -> float:
        """The smallest finite value of the output."""
        return self.post.min

    @property
    def max(self) -> float:
        """The largest finite value of the output."""
        return self.post.max

    @property
    def zeros(self) -> float:
        """The share of zeros in the output."""
        return self.post.zeros

    @property
    def saturated(self) -> float:
        """The share of the output where the activation is saturated."""
        return self.post.saturation

    @property
    def nonfinite(self) -> float:
        """The share of NaN and infinity in the output."""
        return self.post.nonfinite_share

    @property
    def nan(self) -> int | None:
        """How many NaN are in the output; None in a report of an older version."""
        return self.post.nan

    @property
    def inf(self) -> int | None:
        """How many infinities are in the output; None likewise."""
        return self.post.inf

    @property
    def skew(self) -> float | None:
        """The skewness of the output; see :attr:`initfast.Moments.skew`."""
        return self.post.skew

    @property
    def kurtosis(self) -> float | None:
        """The kurtosis of the output, 3 of a normal; see :attr:`initfast.Moments.kurtosis`."""
        return self.post.kurtosis

    @property
    def smallest(self) -> float | None:
        """The least magnitude but zero in the output; infinity where there is none."""
        return self.post.smallest

    @property
    def dynamic_range(self) -> float | None:
        """By how many powers of two the output's magnitudes, but zero, differ."""
        return self.post.dynamic_range

    @property
    def crest(self) -> float:
        """The largest magnitude of the output over its rms."""
        return self.post.crest

    @property
    def correlation(self) -> float | None:
        """The mean inner product of two different rows of the output over their mean square norm.

        A row is a sample; where there are tokens or positions, it is one of them. It is the second
        order parameter of signal propagation: 1 where all rows are the same, about 0 where they
        have nothing to do with each other. It is not the mean cosine, from which it differs where
        norms do: of He-initialised ReLU layers of width 512 it was .950 at layer 30, where the
        mean cosine was .969. A unit of which some values are not finite counts with the pairs of
        its finite ones.

        None for one row, where all is zero, and where units were not measured: of an output of one
        dimension or of more than 262,144 units, of layers that were merged after they were read
        from a file, and in a report of an older version.

        Source:
            Poole et al. 2016, "Exponential expressivity in deep neural networks through transient
            chaos".
        """
        return None if self.unit_moments is None else self.unit_moments.correlation

    @property
    def batch_std(self) -> float | None:
        """The root of the mean over units of each one's variance over the rows.

        0 exactly where every row is the same. None for one row, where nothing is finite, and where
        units were not measured.
        """
        return None if self.unit_moments is None else self.unit_moments.batch_std

    @property
    def unit_spread(self) -> float | None:
        """The std of the units' means over the std of the output.

        None for one unit, where all is the same, and where units were not measured.
        """
        return None if self.unit_moments is None else self.unit_moments.unit_spread

    @property
    def outlier_ratio(self) -> float | None:
        """The largest magnitude of any unit over that of the median unit.

        Infinity where the median is 0 and the largest is not; None where all is zero, and where
        units were not measured.
        """
        return None if self.unit_moments is None else self.unit_moments.outlier_ratio
