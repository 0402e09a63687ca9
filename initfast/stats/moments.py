"""Moments: counts, mean, spread, shape and extremes, mergeable exactly."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from operator import add, mul
from typing import Any

import torch
from torch import Tensor

from initfast import ops
from initfast.collectives import gather
from initfast.ops.checks import DTYPES
from initfast.stats.central_moments import Central, merged


@dataclass(frozen=True)
class Moments:
    """The statistics of a stream of numbers.

    Attributes:
        count: how many numbers there were, finite or not.
        nonfinite: how many were NaN or infinite.
        zero: how many were zero.
        saturated: how many lay where their activation's slope is under 6 % of its steepest.
        mean: of the finite numbers; NaN where there are none.
        m2: the sum of their squared deviations from the mean.
        min: the smallest finite number; infinity where there are none.
        max: the largest; minus infinity where there are none.
        nan: how many were NaN.
        m3: the sum of the third powers of the finite numbers' deviations from the mean.
        m4: the sum of the fourth powers.
        smallest: the least magnitude of the finite numbers but zero; infinity where there is none.

    The last four are None in a report that an older version wrote.

    Example:
        >>> import torch
        >>> Moments.of(torch.tensor([1.0, 2.0, 3.0])).std
        1.0
    """

    count: int = 0
    nonfinite: int = 0
    zero: int = 0
    saturated: int = 0
    mean: float = math.nan
    m2: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    nan: int | None = 0
    m3: float | None = 0.0
    m4: float | None = 0.0
    smallest: float | None = math.inf

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """The moments of a tensor of real numbers, of any shape and dtype.

        Args:
            x: integers and booleans are taken as float64, floats of 8 bits as float32.

        Returns:
            The moments, copied from x's device; saturated is 0.

        Raises:
            TypeError: x is no tensor, or of complex numbers.
            ValueError: x is on the meta device, or nested.

        Example:
            >>> Moments.of(torch.tensor([0, 1, 3])).zero
            1
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"Moments.of: x is a {type(x).__name__}; expected a tensor")
        if x.is_complex():
            raise TypeError(
                f"Moments.of: x is {x.dtype}; expected real numbers, such as x.abs() or "
                "torch.view_as_real(x)"
            )
        if x.is_meta or x.is_nested:
            what = "on the meta device and has no values" if x.is_meta else "a nested tensor"
            raise ValueError(f"Moments.of: x is {what}; expected a tensor with values and a shape")
        x = x.detach()
        if x.is_quantized:
            x = x.dequantize()
        if x.layout is not torch.strided:
            x = x.to_dense()
        if x.dtype not in DTYPES:
            x = x.to(torch.float32 if x.is_floating_point() else torch.float64)
        return cls.from_row(ops.moments(x).tolist())

    @classmethod
    def from_row(cls, row: Sequence[float]) -> Moments:
        """From the columns that the operators return.

        Args:
            row: count, nonfinite, zero, saturated, mean, m2, min, max, nan, m3, m4, smallest.

        Example:
            >>> Moments.from_row(ops.moments(torch.ones(3)).tolist()).mean
            1.0
        """
        count, nonfinite, zero, saturated = map(int, row[:4])
        mean, m2, low, high, nan, m3, m4, smallest = row[4:]
        mean = mean if count > nonfinite else math.nan
        spread = mean, m2, low, high
        return cls(count, nonfinite, zero, saturated, *spread, int(nan), m3, m4, smallest)

    @property
    def finite(self) -> int:
        """How many numbers were finite."""
        return self.count - self.nonfinite

    @property
    def var(self) -> float:
        """The variance, m2 / (finite - 1), as torch divides; NaN below two finite numbers."""
        return self.m2 / (self.finite - 1) if self.finite > 1 else math.nan

    @cached_property
    def std(self) -> float:
        """The standard deviation, the root of :attr:`var`."""
        return math.sqrt(self.var)

    @cached_property
    def rms(self) -> float:
        """The root of the mean square of the finite numbers; NaN where there are none."""
        return math.hypot(self.mean, math.sqrt(self.m2 / self.finite)) if self.finite else math.nan

    @property
    def inf(self) -> int | None:
        """How many numbers were infinite; None where that is not known."""
        return None if self.nan is None else self.nonfinite - self.nan

    @cached_property
    def fingerprint(self) -> tuple[float, ...]:
        """What tells tensors apart, and stays the same where one is reshaped."""
        return (
            *(self.count, self.nonfinite, self.zero, self.min, self.max),
            float(f"{self.std:.6g}"),
        )

    @property
    def skew(self) -> float | None:
        """The skewness of the finite numbers, over n: ``sqrt(n) m3 / m2**1.5``.

        0 of what is symmetric, 2 of an exponential distribution. NaN where there is no spread, or
        its fourth power leaves float64; None where m3 is not known.
        """
        if self.m3 is None or self.m4 is None:
            return None
        return self.m3 / self.m2 * math.sqrt(self.finite / self.m2) if self._has_shape else math.nan

    @property
    def kurtosis(self) -> float | None:
        """The kurtosis of the finite numbers, over n and not the excess: ``n m4 / m2**2``.

        3 of a normal distribution, 1.8 of a uniform, 2.36553671713 of a normal cut at two standard
        deviations; 1 is the least. NaN and None as of :attr:`skew`.
        """
        if self.m4 is None:
            return None
        return self.m4 / self.m2 * (self.finite / self.m2) if self._has_shape else math.nan

    @property
    def _has_shape(self) -> bool:
        return self.m2 > 0 and sys.float_info.min <= (self.m4 or 0) < math.inf

    @property
    def largest(self) -> float:
        """The largest magnitude of the finite numbers; 0 where there are none."""
        return max(abs(self.min), abs(self.max)) if self.finite else 0.0

    @property
    def dynamic_range(self) -> float | None:
        """log2 of the largest magnitude over the smallest but zero; NaN where all is zero.

        None where smallest is not known.
        """
        if self.smallest is None:
            return None
        return math.log2(self.largest) - math.log2(self.smallest) if self.largest else math.nan

    @property
    def crest(self) -> float:
        """The largest magnitude over the rms; NaN where all is zero, or nothing finite.

        Likewise where the squares of what is there leave float64.
        """
        is_held = sys.float_info.min <= self.rms * self.rms < math.inf
        return self.largest / self.rms if is_held else math.nan

    @property
    def zeros(self) -> float:
        """The share of zeros among all numbers; NaN where there are none."""
        return self._share(self.zero)

    @property
    def saturation(self) -> float:
        """The share of saturated numbers among all; NaN where there are none."""
        return self._share(self.saturated)

    @property
    def nonfinite_share(self) -> float:
        """The share of NaN and infinite numbers among all; NaN where there are none."""
        return self._share(self.nonfinite)

    @property
    def _central(self) -> Central:
        return Central(self.finite, self.mean, self.m2, self.m3, self.m4)

    def _share(self, part: int) -> float:
        return part / self.count if self.count else math.nan

    def merge(self, other: Moments) -> Moments:
        """The moments of both streams together.

        Args:
            other: the moments of the other stream.

        Returns:
            What measuring both as one would give, but for rounding.

        Source:
            Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
            sample variances"; m3 and m4: Pébay 2008, "Formulas for robust, one-pass parallel
            computation of covariances and arbitrary-order statistical moments".

        Example:
            >>> a, b = Moments(2, mean=0.0, m2=2.0), Moments(2, mean=3.0, m2=2.0)
            >>> a.merge(b).m2  # 2 + 2 + 3**2 * 2 * 2 / 4
            13.0
        """
        _, mean, m2, m3, m4 = merged(self._central, other._central)
        return Moments(
            self.count + other.count,
            self.nonfinite + other.nonfinite,
            self.zero + other.zero,
            self.saturated + other.saturated,
            mean,
            m2,
            min(self.min, other.min),
            max(self.max, other.max),
            _if_known(add, self.nan, other.nan),
            m3,
            m4,
            _if_known(min, self.smallest, other.smallest),
        )

    def scaled(self, factor: float) -> Moments:
        """The moments of the same numbers times a factor.

        Args:
            factor: above 0.

        Returns:
            The moments; the counts stay.

        Example:
            >>> Moments(2, mean=1.0, m2=2.0, min=0.0, max=2.0).scaled(3.0).m2
            18.0
        """
        return replace(
            self,
            mean=self.mean * factor,
            m2=self.m2 * factor * factor,
            min=self.min * factor,
            max=self.max * factor,
            m3=reduce(partial(_if_known, mul), [factor] * 3, self.m3),
            m4=reduce(partial(_if_known, mul), [factor] * 4, self.m4),
            smallest=_if_known(mul, self.smallest, factor),
        )

    def all_reduce(self, group: Any = None) -> Moments:
        """The moments of what all ranks have measured, the same bits on each; collective.

        Merged in float64 in the order of the ranks, the first with the second and so on.

        Args:
            group: of torch.distributed's; None: the default group. Where there is none, nothing
                is merged.

        Returns:
            The moments of all ranks' numbers.

        Example:
            >>> Moments(2, mean=0.0, m2=2.0).all_reduce().m2  # where nothing is distributed
            2.0
        """
        return reduce(Moments.merge, gather(self, group))


def _if_known(join: Callable[[Any, Any], Any], a: float | None, b: float | None) -> Any:
    return None if a is None or b is None else join(a, b)
