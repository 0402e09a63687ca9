"""How fast a product of random matrices grows."""

from __future__ import annotations

import math

import torch


def growth_rate(n: int) -> float:
    """What a factor adds, on average, to the logarithm of a product of n x n normal matrices.

    It is the top Lyapunov exponent. The logarithm of ``|A v| / |v|`` has the same mean for every
    v: half that of the logarithm of a chi-squared variable with n degrees of freedom.

    Args:
        n: the width of the matrices, whose elements are N(0, 1).

    Returns:
        (ln 2 + psi(n / 2)) / 2, psi the digamma function.

    Source:
        Newman 1986, "The distribution of Lyapunov exponents: exact results for random matrices".

    Example:
        >>> round(growth_rate(4), 6)
        0.557966
    """
    psi = torch.special.digamma(torch.tensor(n / 2, dtype=torch.float64))
    return (math.log(2) + float(psi)) / 2
