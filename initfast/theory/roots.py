"""Where functions of one variable cross zero."""

from __future__ import annotations

from collections.abc import Callable

Function = Callable[[float], float]


class NoSuchPoint(ValueError):
    """What was asked for does not exist; the message says why."""


def root(f: Function, low: float, high: float) -> float:
    """Where f is zero between two points at which its signs differ: regula falsi, Illinois' way.

    Example:
        >>> root(lambda x: x * x - 2, 0.0, 2.0)
        1.414213562373095...
    """
    a, b, at_a, at_b = low, high, f(low), f(high)
    for step in range(200):
        if at_a == 0 or at_b == 0:
            return a if at_a == 0 else b
        x = (a * at_b - b * at_a) / (at_b - at_a)
        if not min(a, b) < x < max(a, b) or step % 16 == 15:
            x = (a + b) / 2
        if x in (a, b) or abs(b - a) <= 4e-16 * abs(x):
            return x
        at_x = f(x)
        if (at_x < 0) != (at_b < 0):
            a, at_a = b, at_b
        else:
            at_a /= 2  # else one end would stay for ever
        b, at_b = x, at_x
    return b
