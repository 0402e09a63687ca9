"""Which family of laws a tensor was drawn from, by its moments, kurtosis and extremes.

The kurtosis of a normal law is 3, of a uniform one 1.8, of a normal cut at 2 sigma 2.3655; the
extremes tell where a cut lies: of n normal numbers the largest is near sqrt(2 ln n) sigma, and a
smaller one has a probability that is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from initfast.stats.cut_normal import cut_kurtosis, cut_std
from initfast.stats.moments import Moments
from initfast.stats.text import number, share

SIGMAS = 6.0
"""How many standard errors a number may lie from what a family says."""

SAMPLE = 1 << 16
"""Of more numbers the kurtosis is held to no less error: roundings and samplers are not exact."""

FEW = 24
"""Of fewer numbers no family can be told."""

COARSE = 64
"""Of fewer the coarse family is not told."""

BY_CHANCE = 1e-4
"""Probability under which a law's largest number is no chance."""

CUTS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Where programs cut a normal law, in its sigmas."""


@dataclass(frozen=True)
class Family:
    """The family of a tensor's numbers.

    Attributes:
        name: "normal", "truncated normal", "uniform", "orthogonal", "constant", "few" (too few to
            tell), "empty", "nowhere finite" or "other".
        mean: of the numbers; 0 where they do not say otherwise.
        std: of the numbers that are not zero, after a cut; of a constant 0.
        cut: where a truncated normal ends, in standard deviations before the cut; else infinity.
        largest: the largest distance from the mean, in std.
        kurtosis: the fourth central moment over the squared variance; NaN where not known.
        zeros: the share of zeros, left out of the law.
        count: how many numbers the law is told by.

    Example:
        >>> str(family(Moments.of(torch.zeros(100))))
        'all 0'
    """

    name: str
    mean: float = 0.0
    std: float = 0.0
    cut: float = math.inf
    largest: float = math.nan
    kurtosis: float = math.nan
    zeros: float = 0.0
    count: int = 0

    @property
    def is_random(self) -> bool:
        """Whether it is a law that initialisers draw from."""
        return self.name in ("normal", "truncated normal", "uniform", "orthogonal")

    @property
    def error(self) -> float:
        """The standard error of std, relative: sqrt((kurtosis - 1) / 4n)."""
        spread = 3.0 if math.isnan(self.kurtosis) else max(self.kurtosis, 1.05)
        return math.sqrt((spread - 1) / (4 * max(self.count, 1)))

    def __str__(self) -> str:
        if self.name == "constant":
            return f"all {number(self.mean)}"
        if not self.count:
            return self.name
        text = {"few": "too few to tell", "other": "no known family"}.get(self.name, self.name)
        text += f", std {number(self.std)}"
        if self.name == "normal":
            text += f", never cut: largest {self.largest:.1f} sigma"
        elif self.name == "truncated normal":
            text += f", cut at {self.cut:.3g} sigma"
        elif self.name == "other":
            text += f", kurtosis {number(self.kurtosis)}"
        text += f", mean {number(self.mean)}" if self.mean else ""
        return text + (f", {share(self.zeros)} zero" if self.zeros else "")


def family(m: Moments, eps: float = 0.0) -> Family:
    """The family of numbers with these moments.

    Args:
        m: their moments.
        eps: of their dtype, relative; roundings move the extremes by so much.

    Returns:
        The family, with its numbers.

    Example:
        >>> w = torch.empty(4096).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
        >>> family(Moments.of(w)).name
        'uniform'
    """
    if m.finite == 0:
        return Family("nowhere finite" if m.count else "empty", math.nan, math.nan)
    if m.m2 == 0:
        return Family("constant", m.mean, 0.0, count=m.finite)
    zeros, n = m.zero / m.count, m.finite - m.zero
    mean = m.mean * m.finite / n
    variance = max((m.m2 + m.finite * m.mean * m.mean - n * mean * mean) / max(n - 1, 1), 0.0)
    std = math.sqrt(variance)
    kurtosis = math.nan if m.kurtosis is None else m.kurtosis
    if std == 0:  # one number, and zeros, as of an identity
        return Family("other", 0.0, m.std, kurtosis=kurtosis, zeros=zeros, count=n)
    kurtosis *= n / m.finite  # where the mean is 0: E w^4 and E w^2 both lose the zeros
    centred = abs(mean) <= SIGMAS * std / math.sqrt(n)
    middle = 0.0 if centred else mean
    largest = max(m.max - middle, middle - m.min) / std
    what = Family("few", middle, std, math.inf, largest, kurtosis, zeros, n)
    if n < FEW:
        return what
    told = min(n, SAMPLE)
    if _is_uniform(m, std, kurtosis, n, eps):
        return _named(what, "uniform")
    expected = n * math.erfc(largest / math.sqrt(2))  # numbers beyond the largest
    if expected <= -math.log(BY_CHANCE) and _near(kurtosis, 3.0, math.sqrt(24 / told)):
        is_outlier = expected < BY_CHANCE**2
        return _named(what, "other" if is_outlier else "normal")
    cut = cut_of(largest, n)
    if cut < 6 and _near(kurtosis, cut_kurtosis(cut), math.sqrt(12 / told), 0.02):
        return _named(what, "truncated normal", cut)
    return _named(what, "other")


def coarse_family(m: Moments) -> str:
    """The family in a word, the same of a weight and of what little training makes of it.

    Args:
        m: of a weight's elements.

    Returns:
        "constant", "sparse", "uniform", "cut at 2 sigma", or "normal", which all is that is not
        cut; "" of too few.

    Example:
        >>> coarse_family(Moments.of(torch.rand(1000) - 0.5))
        'uniform'
    """
    found = family(m)
    if found.name == "constant":
        return found.name
    if m.finite < COARSE or not 0 < found.std < math.inf:
        return ""
    if found.zeros > 0.01:
        return "sparse"
    if found.name == "truncated normal":
        return f"cut at {found.cut:.3g} sigma"
    return "uniform" if found.name == "uniform" else "normal"


def _named(what: Family, name: str, cut: float = math.inf) -> Family:
    return Family(
        name, what.mean, what.std, cut, what.largest, what.kurtosis, what.zeros, what.count
    )


def _near(value: float, expected: float, error: float, slack: float = 0.0) -> bool:
    return math.isnan(value) or abs(value - expected) <= SIGMAS * error + slack


def _is_uniform(m: Moments, std: float, kurtosis: float, n: int, eps: float) -> bool:
    """Whether the width fits the std, and a uniform law explains the numbers better.

    The likelihoods of n numbers are (2h)^-n and (std sqrt(2 pi e))^-n, h half the width.
    """
    half = (m.max - m.min) / 2
    off = abs(std * math.sqrt(3) / half - 1)
    if off > SIGMAS * math.sqrt(0.2 / n) + 3 / n + eps:
        return False
    if not _near(kurtosis, 1.8, math.sqrt(4 / min(n, SAMPLE)), 2 * eps):
        return False
    gain = n * (math.log(std / (2 * half)) + 0.5 * math.log(2 * math.pi * math.e))
    return gain > 3


def cut_of(largest: float, n: int) -> float:
    """The cut of a truncated normal law, from its n numbers' largest in their own std.

    The usual cut is taken where the largest is as near to it as n numbers come; else the cut at
    which numbers end there.
    """
    low, high = 0.05, 8.0
    if largest <= math.sqrt(3):  # narrower than a uniform law's edge: a cut near 0
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle / cut_std(middle) < largest else (low, middle)
    near = [usual for usual in CUTS if _is_near(usual, largest, n)]
    return min(near, key=lambda usual: abs(usual / cut_std(usual) - largest), default=low)


def _is_near(cut: float, largest: float, n: int) -> bool:
    """Whether the largest is as near to a cut as n numbers come."""
    std = cut_std(cut)
    density = math.exp(-cut * cut / 2) * math.sqrt(2 / math.pi)
    gap = 12 / (n * density) + 3 * cut / math.sqrt(n)
    return abs(cut / std - largest) * std <= gap + 0.01


def eps_of(dtype: torch.dtype) -> float:
    """The relative spacing of a dtype's numbers; 0 of integers."""
    return torch.finfo(dtype).eps if dtype.is_floating_point or dtype.is_complex else 0.0
