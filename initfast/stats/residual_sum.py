"""What a branch does to a residual stream: its size beside the stream's, and its direction."""

from __future__ import annotations

from collections.abc import Sequence

from initfast.stats.moments import Moments


def branch_ratio(terms: Sequence[Moments], branch: int | None) -> float | None:
    """The rms of the branch over the rms of the stream; None where either is not known or zero.

    Args:
        terms: the moments of the two terms.
        branch: which of them is the branch; None where that is not known.

    Example:
        >>> stream, branch = Moments(4, mean=2.0), Moments(4, mean=0.5)
        >>> branch_ratio([stream, branch], 1)
        0.25
    """
    if branch is None or len(terms) != 2:
        return None
    return _over(terms[branch].rms, terms[1 - branch].rms)


def branch_cosine(terms: Sequence[Moments], branch: int | None, total: Moments) -> float | None:
    """The cosine of the angle between branch and stream, as vectors of all their elements.

    From the mean squares alone: that of a sum is those of its terms and twice their mean product.
    For terms of like size the error is under 1e-6, and where the sum is rounded to 16 bits about
    eps / sqrt(n) of its dtype and n elements; it grows with the larger term over the smaller.

    Args:
        terms, branch: as of :func:`branch_ratio`.
        total: the moments of their sum.

    Returns:
        From -1 to 1; None where a term is zero, not finite, or lost beside the other.

    Example:
        >>> branch_cosine([Moments(4, mean=2.0), Moments(4, mean=0.5)], 1, Moments(4, mean=2.5))
        1.0
    """
    if branch is None or len(terms) != 2 or any(m.nonfinite for m in (*terms, total)):
        return None
    stream, added = terms[1 - branch].rms, terms[branch].rms
    unit = max(stream, added)
    if not (stream > 0 and added > 0 and stream / unit * (added / unit) > 0):
        return None
    a, b, y = stream / unit, added / unit, total.rms / unit
    return min(1.0, max(-1.0, (y * y - a * a - b * b) / (2 * a * b)))


def _over(a: float, b: float) -> float | None:
    return a / b if b > 0 and a >= 0 else None
