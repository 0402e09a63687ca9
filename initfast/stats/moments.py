"""Moments: count, mean, spread and extremes, mergeable exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from initfast import ops
from initfast.collectives import gather
from initfast.ops.checks import DTYPES


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
        """From the eight columns that the operators return.

        Args:
            row: count, nonfinite, zero, saturated, mean, m2, min, max.

        Returns:
            The moments; their mean is NaN where nothing is finite.

        Example:
            >>> Moments.from_row(ops.moments(torch.ones(3)).tolist()).mean
            1.0
        """
        count, nonfinite, zero, saturated, mean, m2, low, high = row
        n, bad = int(count), int(nonfinite)
        return cls(n, bad, int(zero), int(saturated), mean if n > bad else math.nan, m2, low, high)

    @property
    def finite(self) -> int:
        """How many numbers were finite."""
        return self.count - self.nonfinite

    @property
    def var(self) -> float:
        """The variance, m2 / (finite - 1), as torch divides; NaN below two finite numbers."""
        return self.m2 / (self.finite - 1) if self.finite > 1 else math.nan

    @property
    def std(self) -> float:
        """The standard deviation, the root of :attr:`var`."""
        return math.sqrt(self.var)

    @property
    def rms(self) -> float:
        """The root of the mean square of the finite numbers; NaN where there are none."""
        return math.hypot(self.mean, math.sqrt(self.m2 / self.finite)) if self.finite else math.nan

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
            sample variances".

        Example:
            >>> a, b = Moments(2, mean=0.0, m2=2.0), Moments(2, mean=3.0, m2=2.0)
            >>> a.merge(b).m2  # 2 + 2 + 3**2 * 2 * 2 / 4
            13.0
        """
        na, nb = self.finite, other.finite
        mean, m2 = (self.mean, self.m2) if na else (other.mean, other.m2)
        if na and nb:
            delta, share = other.mean - self.mean, nb / (na + nb)
            mean = self.mean + delta * share
            m2 = self.m2 + other.m2 + delta * delta * na * share
        return Moments(
            self.count + other.count,
            self.nonfinite + other.nonfinite,
            self.zero + other.zero,
            self.saturated + other.saturated,
            mean,
            m2,
            min(self.min, other.min),
            max(self.max, other.max),
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
