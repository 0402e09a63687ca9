"""Which family of distributions a weight's elements come from, by their moments alone."""

from __future__ import annotations

import math

from initfast.stats.moments import Moments

_UNIFORM = math.sqrt(3)
"""The largest magnitude of a uniform distribution about zero, in standard deviations."""
_UNLIKELY = 1e-6
"""How improbable a sample must be before it is no longer called normal."""
_FEW = 64
"""Below so many elements the extremes tell no family from another."""


def weight_family(moments: Moments) -> str:
    """The family: "constant", "sparse", "uniform", "cut at 2.3 std", "normal" or "" (too few).

    A sample of n normal numbers has all its magnitudes within c standard deviations with
    probability erf(c / sqrt(2))^n. Where that is below 1e-6, the distribution was cut. Whatever is
    not cut is "normal", orthogonal matrices and heavier tails too.

    Args:
        moments: of the weight's elements.

    Example:
        >>> weight_family(initfast.Moments.of(torch.rand(1000) - 0.5))
        'uniform'
    """
    finite = moments.finite
    if finite and moments.min == moments.max:
        return "constant"
    if finite < _FEW or not 0 < moments.std < math.inf:
        return ""
    if moments.zero > 0.01 * finite:
        return "sparse"
    deviation = max(abs(moments.min - moments.mean), abs(moments.max - moments.mean))
    cut = deviation / moments.std
    if finite * math.log(math.erf(cut / math.sqrt(2))) > math.log(_UNLIKELY):
        return "normal"
    return "uniform" if cut < 1.1 * _UNIFORM else f"cut at {cut:.1f} std"
