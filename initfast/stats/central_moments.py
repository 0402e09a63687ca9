"""The central moments of two streams of numbers together; csrc/math/moments.h has the same."""

from __future__ import annotations

from typing import NamedTuple


class Central(NamedTuple):
    """The mean of so many finite numbers, and the sums of their deviations' powers.

    m3 and m4 are None where they are not known.
    """

    finite: int
    mean: float
    m2: float
    m3: float | None
    m4: float | None


def merged(a: Central, b: Central) -> Central:
    """Those of both streams.

    Chan, Golub & LeVeque 1979; the third and fourth: Pébay 2008, as Moments.merge has them in full.
    """
    if not (a.finite and b.finite):
        return a if a.finite else b
    count = a.finite + b.finite
    of_b = b.finite / count
    of_a, delta = 1 - of_b, b.mean - a.mean
    between = delta * delta * a.finite * of_b
    mean, m2 = a.mean + delta * of_b, a.m2 + b.m2 + between
    if a.m3 is None or a.m4 is None or b.m3 is None or b.m4 is None:
        return Central(count, mean, m2, None, None)
    m3 = a.m3 + b.m3 + between * delta * (of_a - of_b) + 3 * delta * (of_a * b.m2 - of_b * a.m2)
    m4 = a.m4 + b.m4 + between * delta * delta * (of_a * of_a - of_a * of_b + of_b * of_b)
    m4 += 6 * delta * delta * (of_a * of_a * b.m2 + of_b * of_b * a.m2)
    return Central(count, mean, m2, m3, m4 + 4 * delta * (of_a * b.m3 - of_b * a.m3))
