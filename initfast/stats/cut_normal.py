"""What is left of a normal distribution that is cut on both sides."""

from __future__ import annotations

import math


def cut_std(cut: float) -> float:
    """The std of a standard normal variable within ±cut, above 0.

    1 - 2 c φ(c) / (2 Φ(c) - 1). Near 0, where that cancels, the variable is uniform but for c²: the
    series is c²/3 (1 - 2 c²/15 - ...).

    Example:
        >>> round(cut_std(2.0), 14), round(cut_std(3.0), 14), cut_std(math.inf)
        (0.87962566103424, 0.98657839255811, 1.0)
    """
    if math.isinf(cut):
        return 1.0
    if cut < 1e-2:
        return cut / math.sqrt(3) * (1 - cut * cut / 15)
    density = math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - 2 * cut * density / math.erf(cut / math.sqrt(2)))


def cut_kurtosis(cut: float) -> float:
    """The kurtosis of a standard normal variable within ±cut, above 0.

    By the moments' recurrence, E z⁴ = 3 E z² - c² (1 - E z²). Near 0, where that cancels, the
    variable is uniform but for c²: the series is 9/5 (1 + 8 c²/105 + ...).

    Example:
        >>> round(cut_kurtosis(2.0), 11), cut_kurtosis(math.inf)
        (2.36553671713, 3.0)
    """
    if math.isinf(cut):
        return 3.0
    if cut < 1e-2:
        return 1.8 * (1 + 8 * cut * cut / 105)
    second = cut_std(cut) ** 2
    return (3 * second - cut * cut * (1 - second)) / second**2
