"""Where the variance and the correlation of the signal settle with depth, and how fast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from initfast.errors import ArgumentError
from initfast.theory.correlation import product
from initfast.theory.elementwise import Activation
from initfast.theory.mean_field import sigma
from initfast.theory.mesh import Mesh, mesh
from initfast.theory.quadrature import Expectations
from initfast.theory.roots import NoSuchPoint, root

_HOLDS = 1e-11
"""Of the variance: by so little may a layer change it at a fixed point."""

_NEUTRAL = 1e-7
"""A slope within this of 1 is 1: at a point that two fixed points make together its digits are the
square root of the variance's."""

_ROUNDING = 1e-12
"""Of a slope: by so little it is 1."""

_SMALLEST, _LARGEST = 1e-12, 1e12
_STEP = math.log(2) / 2


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """Where a signal settles at infinite width, and what happens near there.

    Attributes:
        q: the variance of the pre-activations.
        c: the correlation that those of two inputs settle at; NaN where q is 0.
        chi: the factor of a gradient's square, a layer; below 1 it vanishes, above it explodes.
        q_slope: the slope of the variance map: the factor of a deviation of q, a layer.
        c_slope: the slope of the correlation map at c.
        xi_q: over how many layers a deviation of q falls by e; negative where it grows.
        xi_c: over how many layers a deviation of c falls by e: deep nets learn up to a few times
            as many (Schoenholz et al. 2017); infinite at the edge of chaos.
    """

    q: float
    c: float
    chi: float
    q_slope: float
    c_slope: float
    xi_q: float
    xi_c: float

    @property
    def stability(self) -> str:
        """ "stable" (a deviation of q dies out), "unstable" (it grows) or "neutral" (it stays)."""
        if abs(abs(self.q_slope) - 1) <= _NEUTRAL:
            return "neutral"
        return "stable" if abs(self.q_slope) < 1 else "unstable"

    @property
    def phase(self) -> str:
        """ "ordered" (gradients vanish), "chaotic" (they explode) or "critical"."""
        if abs(self.chi - 1) <= _NEUTRAL:
            return "critical"
        return "ordered" if self.chi < 1 else "chaotic"

    def layers_held(self, width: int) -> float:
        """How many layers of a net of that width hold the variance at this point.

        At finite width a layer moves q by about 1 / √width of itself. An unstable point multiplies
        that by q_slope at each layer, and it is of the order of q after ln(width) / (2 ln q_slope);
        infinite where the point is not unstable.

        Example:
            >>> point = initfast.theory.fixed_point("gelu", initfast.theory.gain("gelu"), 0.0)
            >>> point.stability, round(point.layers_held(256))
            ('unstable', 21)
        """
        if width < 1:
            raise ArgumentError(f"width is {width}; expected at least 1")
        if self.stability != "unstable":
            return math.inf
        return math.log(width) / (2 * math.log(abs(self.q_slope)))


def fixed_point(f: Activation, sigma_w: float, sigma_b: float, start: float = 1.0) -> FixedPoint:
    """Where the variance of a signal settles, and the correlation of two.

    Args:
        f: as :func:`gain` takes it.
        sigma_w: √fan_in times the std of the weights.
        sigma_b: the std of the biases.
        start: the variance of the first pre-activation. The point is the one that it is drawn to,
            or the one where it is: that may be unstable.

    Returns:
        The point; q is 0 where the signal fades.

    Raises:
        NoSuchPoint: a ValueError. The variance grows past 1e12, or swings.
        ArgumentError: a sigma is negative, start not above 0; and what :func:`gain` raises.

    Source:
        Poole et al. 2016; Schoenholz et al. 2017, the depth scales xi_q and xi_c.

    Example:
        >>> point = initfast.theory.fixed_point(torch.tanh, 2.5, 0.3)
        >>> round(point.q, 6), round(point.c, 6), point.phase, round(point.xi_c, 4)
        (4.079124, 0.122104, 'chaotic', 5.1089)
    """
    found = mesh(f)
    w, b = sigma("sigma_w", sigma_w), sigma("sigma_b", sigma_b)
    if not (start > 0 and math.isfinite(start)):
        raise ArgumentError(f"start is {start}; expected a variance, above 0")
    q = settled(variances(found), w, b, start, found.f.name)
    if q == 0:
        near = Expectations(found, 0.0, math.sqrt(_SMALLEST))
        slope, chi = w * w * near.second / _SMALLEST, w * w * near.squared_slope
        c, c_slope = math.nan, math.nan
    else:
        at = Expectations(found, 0.0, math.sqrt(q))
        slope, chi = w * w * at.slope_of_second, w * w * at.squared_slope
        c, c_slope = _correlation(found, q, w, b, chi)
    return FixedPoint(
        q=q,
        c=c,
        chi=chi,
        q_slope=slope,
        c_slope=c_slope,
        xi_q=_depth(slope),
        xi_c=_depth(c_slope),
    )


def _depth(slope: float) -> float:
    """Over how many layers what is multiplied by a slope falls by e."""
    if slope == 0 or math.isnan(slope):
        return slope
    log = math.log(abs(slope))
    return -1 / log if abs(log) > _ROUNDING else math.inf


def _correlation(f: Mesh, q: float, w: float, b: float, chi: float) -> tuple[float, float]:
    """The stable fixed point of the correlation map within [0, 1], and the slope there.

    The map is a power series of no negative coefficient, so convex, and 1 is a fixed point with the
    slope chi: where that is above 1 there is one more, which Newton's method reaches from 0 without
    ever passing it.
    """
    if chi <= 1 + _HOLDS:
        return 1.0, chi
    c = slope = 0.0
    for _ in range(100):
        mean, by_c = product(f, c, q)
        slope = w * w * by_c / q
        step = ((w * w * mean + b * b) / q - c) / (1 - slope)
        if abs(step) <= 4e-16 or not 0 <= c + step < 1:
            break
        c += step
        if abs(step) <= 1e-9:  # and the next, its square, is below rounding
            break
    return c, slope


Variances: TypeAlias = Callable[[float], tuple[float, float]]
"""E f(√q Z)² and its derivative, of q."""


def variances(f: Mesh) -> Variances:
    """Those of a function, each computed once."""

    @cache
    def of(q: float) -> tuple[float, float]:
        at = Expectations(f, 0.0, math.sqrt(q))
        return at.second, at.slope_of_second

    return of


def settled(of: Variances, w: float, b: float, start: float, name: str) -> float:
    """The fixed point that the variance map draws a variance to.

    Args:
        of: E f² and its derivative.
        w, b, start: as for :func:`fixed_point`.
        name: of f, for errors.

    Raises:
        NoSuchPoint: there is none, or the variance swings.
    """

    @cache
    def growth(log_q: float) -> float:
        q = math.exp(log_q)
        second = w * w * of(q)[0] + b * b
        return math.log(second) - log_q if second > 0 else -math.inf

    def growth_slope(log_q: float) -> float:
        q = math.exp(log_q)
        second, slope = of(q)
        total = w * w * second + b * b
        return q * w * w * slope / total - 1 if total > 0 else -1.0

    if w * w == 0 and b * b == 0:
        return 0.0
    first = math.log(start)
    if abs(growth(first)) <= _HOLDS:
        return start
    way = math.copysign(1.0, growth(first))
    for here, there in itertools.pairwise(first + way * _STEP * i for i in itertools.count()):
        try:
            if growth(there) * way <= 0:
                return _steady(math.exp(root(growth, here, there)), of, w, name)
            if growth_slope(here) < 0 < growth_slope(there):  # they may touch between the two
                turn = root(growth_slope, here, there)
                if abs(growth(turn)) <= _HOLDS:
                    return math.exp(turn)
        except ArgumentError as error:
            raise NoSuchPoint(
                f"the variance under {name} grows from {start:g} on: {error}"
            ) from error
        if there > math.log(_LARGEST):
            raise _without_bound(w, b, start, name)
        if there < math.log(_SMALLEST) and b == 0 and of(_SMALLEST**2)[0] < _SMALLEST:
            return 0.0
    raise AssertionError


def _without_bound(w: float, b: float, start: float, name: str) -> NoSuchPoint:
    return NoSuchPoint(
        f"the variance under {name} at sigma_w {w:g}, sigma_b {b:g} grows from {start:g} past "
        f"{_LARGEST:g}, where the search ends; expected smaller ones, or a start below the "
        "unstable point"
    )


def _steady(q: float, of: Variances, w: float, name: str) -> float:
    if w * w * of(q)[1] < -1:
        raise NoSuchPoint(
            f"the variance under {name} swings about {q:.6g}, where the variance map's slope is "
            f"{w * w * of(q)[1]:.4g}; expected a smaller sigma_w"
        )
    return q
