"""Which weights and biases bring a deep net to the edge of chaos, and what lies on either side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from initfast.errors import ArgumentError
from initfast.theory.elementwise import Activation
from initfast.theory.fixed_points import settled, variances
from initfast.theory.mean_field import sigma
from initfast.theory.mesh import Mesh, mesh
from initfast.theory.quadrature import Expectations
from initfast.theory.roots import NoSuchPoint, root

_VARIANCES = [2.0**k for k in range(-26, 21)]
"""Of which the critical line is followed."""

_ROUNDING = 1e-12  # of the variance: a sigma_b² that is 0
_NO_SLOPE = 1e-9  # a logarithm of the ratio of the two slopes that is 0


class _Critical(NamedTuple):
    """A point of the critical line: sigma_w² = 1 / E f'², sigma_b² = q - sigma_w² E f²."""

    w2: float
    b2: float


def _critical(f: Mesh, q: float) -> _Critical:
    at = Expectations(f, 0.0, math.sqrt(q))
    if not 0 < at.squared_slope < math.inf:
        shape = "jumps" if at.squared_slope else "is flat"
        raise NoSuchPoint(f"{f.f.name} {shape}, so no sigma_w makes chi 1; expected a finite slope")
    w2 = 1 / at.squared_slope
    b2 = q - w2 * at.second
    return _Critical(w2, b2 if abs(b2) > _ROUNDING * q else 0.0)


def critical(f: Activation | Mesh, sigma_b: float) -> float:
    """The sigma_w at which a deep net is at the edge of chaos: chi is 1 at the fixed point.

    The critical line is parametrised by the variance q of its fixed point: sigma_w² = 1 / E f'(√q
    Z)², sigma_b² = q - sigma_w² E f(√q Z)². Where several of its points have that sigma_b, that of
    the smallest q. With GELU and its like q_slope is not 1 there: see :func:`half_stable`.

    Args:
        f: as :func:`gain` takes it.
        sigma_b: the std of the biases.

    Returns:
        sigma_w, √fan_in times the std of the weights.

    Raises:
        NoSuchPoint: a ValueError. No sigma_w is critical, as with softplus, or none at this
            sigma_b, as with ReLU beyond 0.
        ArgumentError: sigma_b is negative; and what :func:`gain` raises.

    Source:
        Schoenholz et al. 2017, the critical line; Hayou et al. 2019, "On the impact of the
        activation function on deep neural networks training", the edge of chaos.

    Example:
        >>> round(initfast.theory.critical("tanh", 0.05**0.5), 6)
        1.32701
    """
    found, b2 = mesh(f), sigma("sigma_b", sigma_b) ** 2
    least = _VARIANCES[0] ** 3
    if b2 == 0 and abs(_critical(found, least).b2) <= 1e-6 * least:
        return math.sqrt(_critical(found, least).w2)

    def excess(log_q: float) -> float:
        at = _critical(found, math.exp(log_q))
        return at.b2 - b2

    most, before = -math.inf, 0.0
    for q in _VARIANCES:
        try:
            at = _critical(found, q)
        except ArgumentError:  # f is infinite so far out
            break
        if at.b2 >= b2 > 0 or at.b2 > b2:
            log_q = root(excess, math.log(before), math.log(q)) if before else math.log(q)
            return math.sqrt(_critical(found, math.exp(log_q)).w2)
        most, before = max(most, at.b2), q
    raise NoSuchPoint(
        f"{found.f.name} has no critical point: sigma_b² would be negative at every variance"
        if most < 0
        else f"{found.f.name} has no critical point at sigma_b {sigma_b:g}; "
        f"expected at most {math.sqrt(most):.6g}"
    )


@dataclass(frozen=True, kw_only=True)
class HalfStable:
    """Weights and biases that hold both the signal and the gradient, to first order.

    Attributes:
        q: the variance of the pre-activations that they hold.
        sigma_w: √fan_in times the std of the weights.
        sigma_b: the std of the biases.
    """

    q: float
    sigma_w: float
    sigma_b: float


def half_stable(f: Activation) -> HalfStable:
    """The point at which chi and the slope of the variance map are both 1, at a variance above 0.

    For GELU, SiLU and Mish it is what the unit gain is not: deviations of the variance neither grow
    nor fall exponentially; from one side they die out as 1 / depth, to the other they creep away.

    Args:
        f: as :func:`gain` takes it.

    Returns:
        The point; that of variance 1 where every variance has one, as with ReLU.

    Raises:
        NoSuchPoint: a ValueError. There is none, as with tanh, whose line ends at the variance 0.
        ArgumentError: what :func:`gain` raises.

    Source:
        Roberts, Yaida & Hanin 2022, "The Principles of Deep Learning Theory", ch. 5.

    Example:
        >>> point = initfast.theory.half_stable("gelu")
        >>> [round(x, 6) for x in (point.q, point.sigma_w**2, point.sigma_b**2)]
        [3.561553, 1.983058, 0.172922]
    """
    found = mesh(f)

    def excess(log_q: float) -> float:
        at = Expectations(found, 0.0, math.exp(log_q / 2))
        if not (at.slope_of_second > 0 and 0 < at.squared_slope < math.inf):
            return -math.inf
        ratio = math.log(at.slope_of_second / at.squared_slope)
        return ratio if abs(ratio) > _NO_SLOPE else 0.0

    q, differs, before = 0.0, False, (0.0, 0.0)
    for log_q in map(math.log, _VARIANCES[14:]):
        try:
            ratio = excess(log_q)
        except ArgumentError:  # f is infinite so far out
            break
        if ratio * before[1] < 0:
            q = math.exp(root(excess, before[0], log_q))
            break
        if ratio:
            differs, before = True, (log_q, ratio)
    at = _critical(found, q if differs else 1.0) if q or not differs else None
    if at is None or at.b2 < 0:
        raise NoSuchPoint(
            f"{found.f.name} has no variance above 0 at which chi and the slope of the variance "
            "map are both 1, with sigma_b² not negative"
        )
    return HalfStable(q=q or 1.0, sigma_w=math.sqrt(at.w2), sigma_b=math.sqrt(at.b2))


@dataclass(frozen=True, kw_only=True)
class PhaseDiagram:
    """What becomes of signal and gradient over a grid of weights and biases.

    Attributes:
        sigma_w: the columns, √fan_in times the std of the weights.
        sigma_b: the rows, the std of the biases.
        q: ``[rows, columns]``: the variance that a signal of variance 1 settles at; infinite where
            it grows for ever.
        chi: ``[rows, columns]``: the factor of a gradient's square there: below 1 ordered, above 1
            chaotic; NaN where q is infinite.
        critical: for each row the sigma_w at which chi is 1; NaN where there is none.
    """

    sigma_w: Tensor
    sigma_b: Tensor
    q: Tensor
    chi: Tensor
    critical: Tensor


def phase_diagram(
    f: Activation,
    sigma_w: Sequence[float] | Tensor | None = None,
    sigma_b: Sequence[float] | Tensor | None = None,
) -> PhaseDiagram:
    """The fixed point and chi over a grid of weights and biases, and the critical line.

    Args:
        f: as :func:`gain` takes it.
        sigma_w: the columns; 25 values about the critical ones where None.
        sigma_b: the rows; 0 to 0.5 in 21 steps where None.

    Returns:
        The diagram, in float64.

    Raises:
        ArgumentError: a sigma is negative; and what :func:`gain` raises.

    Source:
        Poole et al. 2016, fig. 1; Schoenholz et al. 2017, fig. 1.

    Example:
        >>> diagram = initfast.theory.phase_diagram("tanh", [0.8, 1.2, 2.0], [0.1, 0.3])
        >>> diagram.chi > 1
        tensor([[False,  True,  True],
                [False, False,  True]])
        >>> [round(w, 4) for w in diagram.critical.tolist()]
        [1.1934, 1.3956]
    """
    found = mesh(f)
    rows = [sigma("sigma_b", b) for b in _floats(sigma_b, np.linspace(0.0, 0.5, 21))]
    line = [_critical_or_nan(found, b) for b in rows]
    columns = [sigma("sigma_w", w) for w in _floats(sigma_w, _about(found, line))]
    of = variances(found)
    q, chi = np.full((2, len(rows), len(columns)), math.nan)
    for i, b in enumerate(rows):
        for j, w in enumerate(columns):
            try:
                q[i, j] = settled(of, w, b, 1.0, found.f.name)
            except NoSuchPoint:
                q[i, j] = math.inf
                continue
            at = Expectations(found, 0.0, math.sqrt(max(q[i, j], _VARIANCES[0] ** 2)))
            chi[i, j] = w * w * at.squared_slope
    tensors = (torch.tensor(x, dtype=torch.float64) for x in (columns, rows, q, chi, line))
    names = ("sigma_w", "sigma_b", "q", "chi", "critical")
    return PhaseDiagram(**dict(zip(names, tensors, strict=True)))


def _critical_or_nan(f: Mesh, sigma_b: float) -> float:
    try:
        return critical(f, sigma_b)
    except NoSuchPoint:
        return math.nan


def _floats(values: Sequence[float] | Tensor | None, otherwise: np.ndarray) -> list[float]:
    return [float(x) for x in (otherwise if values is None else values)]


def _about(f: Mesh, line: Sequence[float]) -> np.ndarray:
    known = [w for w in line if math.isfinite(w)]
    middle = float(np.median(known)) if known else 1 / math.sqrt(Expectations(f).second)
    return np.linspace(0.5 * middle, 2.0 * middle, 25)
