"""Tables of inverse distribution functions: what the sampler needs to draw normal numbers.

The sampler takes a probability v from an end of the distribution, 2^-32 <= v <= 1/2, and evaluates
one polynomial for each octave of v (csrc/math/distribution.h). Here those polynomials are computed
for the normal distribution truncated to any interval. Its quantile function x obeys x'' = x x'^2
along the probability (Steinbrecher & Shaw 2008, "Quantile mechanics"), so x and
its slope at the centre of an octave, found by Newton's method, give its whole Taylor series;
Chebyshev economisation then leaves a short polynomial (error below 1e-6 standard deviations for
float32).

Only +, -, *, / and square roots of float64 are used, which every machine rounds alike: the tables,
and so the samples, have the same bits everywhere. (The C library's exp and log do not.)
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:  # nothing that runs needs it, and its import takes time
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.float64]"

OCTAVES = {torch.float32: 32, torch.float64: 64}
DEGREE = {torch.float32: 6, torch.float64: 18}
_TAYLOR_TERMS = 42  # each a third of the one before at the octave's end: 3^-42 = 1e-20
_SQRT_2PI = 2.5066282746310002
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


class Table(NamedTuple):
    """A truncated standard normal distribution, ready to sample.

    coefficients: ``[halves, degree + 1, octaves]``, highest degree first.
    shape: "symmetric" (one half, mirrored), "skewed" (the left half and the right), or "one_sided"
        (zero lies outside: the whole interval, v <= 1 being the probability from its far end).
    origin: x counts from the "mean"; where zero lies outside, from the bound that is nearer to it
        ("low" or "high"), which keeps its precision in far tails.
    """

    coefficients: Tensor
    shape: str
    origin: str


@functools.lru_cache(maxsize=256)
def truncated_normal(low: float, high: float, dtype: torch.dtype) -> Table:
    """The standard normal distribution truncated to [low, high].

    Args:
        low, high: the bounds in standard deviations, low < high; infinities included.
        dtype: torch.float32 or torch.float64.

    Returns:
        Its Table.

    Example:
        >>> truncated_normal(-2.0, 2.0, torch.float32).coefficients.shape
        torch.Size([1, 7, 32])
    """
    octaves = OCTAVES[dtype]
    # Octave k holds v = 2^(k - octaves) t with 1 <= t < 2, twice that on one side. The last octave
    # is only the point where v ends, at 1/2 or 1.
    k = np.arange(octaves)
    scale = np.ldexp(1.0, k - octaves)
    v = np.where(k == octaves - 1, 1.0, 1.5) * scale
    if low >= 0 or high <= 0:
        scale, v = 2 * scale, 2 * v
        half = _one_sided(low, high, v) if low >= 0 else _mirrored(_one_sided(-high, -low, v))
        halves, shape, origin = [half], "one_sided", "low" if low >= 0 else "high"
    else:
        left, right = _two_sided(low, high, v)
        halves, shape = ([right], "symmetric") if low == -high else ([left, right], "skewed")
        origin = "mean"
    tables = [_polynomials(half, scale, DEGREE[dtype]) for half in halves]
    column = (k - 1) % octaves  # the number's exponent modulo the octaves
    ordered = np.empty((len(tables), DEGREE[dtype] + 1, octaves))
    ordered[:, :, column] = tables
    return Table(torch.from_numpy(ordered).to(dtype), shape, origin)


class _Half(NamedTuple):
    """x at probabilities v from one end: its origin, x less the origin, and dx/dv."""

    origin: float
    x: Array
    slope: Array


def _mirrored(half: _Half) -> _Half:
    return _Half(-half.origin, -half.x, -half.slope)


def _two_sided(low: float, high: float, v: Array) -> tuple[_Half, _Half]:
    """[low, high] holds zero: the half at low, and the half at high."""
    centred_low, centred_high = -_centred(-low), _centred(high)
    mass = centred_high - centred_low
    below, above = _survival(-low), _survival(high)
    left = _solve(centred_low + v * mass, below + v * mass, above + (1 - v) * mass)
    right = _solve(centred_high - v * mass, below + (1 - v) * mass, above + v * mass)
    return (
        _Half(0.0, left, mass / _density(left)),
        _Half(0.0, right, -mass / _density(right)),
    )


def _solve(centred: Array, below: Array, above: Array) -> Array:
    """x where the distribution function is 1/2 + centred = below = 1 - above."""
    middle = np.abs(centred) < 0.34
    target = np.where(middle, np.abs(centred), 0.0)
    inner = target * _SQRT_2PI
    for _ in range(8):
        inner = inner + (target - _density(inner) * _odd_series(inner)) / _density(inner)
    target = _log(np.where(middle, 0.15, np.minimum(below, above)))
    outer = np.ones_like(centred)
    for _ in range(14):  # log-survival is concave: Newton overshoots once, then falls to the root
        mills = _mills(outer)
        outer = outer + mills * (_log(mills / _SQRT_2PI) - outer * outer / 2 - target)
    x = np.where(middle, inner, outer)
    return np.where(centred < 0, -x, x)


def _one_sided(low: float, high: float, v: Array) -> _Half:
    """0 <= low: the whole interval from its end at high; x counts from low."""
    start = _mills(np.array(low))
    beyond, mass = np.array(0.0), np.array(1.0)  # of low's survival: beyond high, and up to it
    if math.isfinite(high):
        lost = _log_survival_ratio(low, start, np.array(high - low))
        beyond, mass = _exp(lost), -_expm1(lost)
    share = beyond + v * mass
    x = np.zeros_like(v)
    for _ in range(14):
        x = x + _mills(low + x) * (_log_survival_ratio(low, start, x) - _log(share))
    return _Half(low, x, -mass / share * _mills(low + x))


def _log_survival_ratio(low: float, mills_low: Array, x: Array) -> Array:
    """log of S(low + x) / S(low)."""
    mills = _mills(low + x)
    return _log1p((mills - mills_low) / mills_low) - x * (low + x / 2)


def _polynomials(half: _Half, scale: Array, degree: int) -> Array:
    """``[degree + 1, octaves]``: x as a polynomial in t - 3/2, t in [1, 2), highest degree first.

    In the last octave, which is a point, a constant.
    """
    x = [half.origin + half.x, half.slope * scale]
    slope = [x[1]]
    square: list[Array] = []  # of the slope
    for n in range(_TAYLOR_TERMS - 2):
        square.append(_convolved(slope, slope, n))
        x.append(_convolved(x, square, n) / ((n + 1) * (n + 2)))
        slope.append(x[-1] * (n + 2))
    x[0] = half.x
    economy = _economisation(degree)
    rows = []
    for d in range(degree, -1, -1):
        row = np.zeros_like(scale)
        for n in range(_TAYLOR_TERMS):
            row = row + economy[d][n] * x[n]
        row[-1] = half.x[-1] if d == 0 else 0.0
        rows.append(row)
    return np.array(rows)


def _convolved(a: list[Array], b: list[Array], n: int) -> Array:
    total = np.zeros_like(a[0])
    for i in range(n + 1):
        total = total + a[i] * b[n - i]
    return total


@functools.cache
def _economisation(degree: int) -> list[list[float]]:
    """[d][n]: what s^n on [-1/2, 1/2] adds to s^d when its Chebyshev series ends at `degree`."""
    from fractions import Fraction  # needs decimal, which takes longer than all else here

    chebyshev = [[Fraction(1)], [Fraction(0), Fraction(1)]]  # T_j in powers of z = 2 s
    for j in range(2, degree + 1):
        last, before = [Fraction(0), *chebyshev[j - 1]], chebyshev[j - 2]
        chebyshev.append(
            [2 * c - (before[i] if i < len(before) else 0) for i, c in enumerate(last)]
        )
    result = [[Fraction(0)] * _TAYLOR_TERMS for _ in range(degree + 1)]
    for n in range(_TAYLOR_TERMS):
        for j in range(n % 2, min(n, degree) + 1, 2):
            share = Fraction(math.comb(n, (n - j) // 2), 2 ** (n - 1 if j else n))
            if n == 0:
                share = Fraction(1)
            for d, c in enumerate(chebyshev[j]):
                result[d][n] += share * c * Fraction(2) ** (d - n)
    return [[float(value) for value in row] for row in result]


# ---- the normal distribution, to a few units in the last place of float64 ----


def _density(x: Array) -> Array:
    return _exp(-x * x / 2) / _SQRT_2PI


def _odd_series(x: Array) -> Array:
    """x + x^3/3 + x^5/15 + ...: times the density, the distribution function less 1/2."""
    term = total = x
    for n in range(3, 81, 2):
        term = term * (x * x) / n
        total = total + term
    return total


def _mills(x: Array) -> Array:
    """Survival over density, for x >= 0: series near zero, Laplace's continued fraction beyond."""
    near = np.minimum(x, 1.5)
    by_series = 0.5 / _density(near) - _odd_series(near)
    far = np.maximum(x, 1.5)
    tail = far
    for n in range(200, 0, -1):
        tail = far + n / tail
    return np.where(x < 1.5, by_series, 1 / tail)


def _survival(x: float) -> float:
    if x == math.inf:
        return 0.0
    at = np.array(x)
    return float(_mills(at) * _density(at))


def _centred(x: float) -> float:
    """The distribution function less 1/2, for x >= 0."""
    return float(_density(np.array(x)) * _odd_series(np.array(x))) if x < 2 else 0.5 - _survival(x)


# ---- elementary functions out of exactly rounded operations ----


def _exp(x: Array) -> Array:
    n = np.rint(np.maximum(x, -1400.0) / math.log(2))
    fraction = _expm1_series(np.maximum(x, -1400.0) - n * _LN2_HIGH - n * _LN2_LOW)
    return np.ldexp(1 + fraction, n.astype(np.int64))


def _expm1(x: Array) -> Array:
    return np.where(np.abs(x) < 0.34, _expm1_series(np.clip(x, -0.34, 0.34)), _exp(x) - 1)


def _expm1_series(x: Array) -> Array:
    total = np.zeros_like(x)
    for n in range(16, 1, -1):
        total = (total + 1) * x / n
    return (total + 1) * x


def _log(x: Array) -> Array:
    fraction, exponent = np.frexp(x)
    small = fraction < 0.7071067811865476
    fraction = np.where(small, 2 * fraction, fraction)
    exponent = np.where(small, exponent - 1, exponent)
    return exponent * _LN2_HIGH + (
        exponent * _LN2_LOW + _two_atanh((fraction - 1) / (fraction + 1))
    )


def _log1p(x: Array) -> Array:
    near = np.abs(x) < 0.34
    inner = np.where(near, x, 0.0)
    return np.where(near, _two_atanh(inner / (2 + inner)), _log(np.where(near, 1.0, 1 + x)))


def _two_atanh(x: Array) -> Array:
    total = np.zeros_like(x)
    for n in range(27, 1, -2):
        total = (total + 1 / n) * (x * x)
    return 2 * x * (total + 1)
