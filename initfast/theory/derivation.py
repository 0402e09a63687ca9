"""The derivation of what a layer does to the scale of a signal, in words and with numbers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable

import torch

from initfast.ops.activations import ACTIVATIONS
from initfast.theory.fixed_points import fixed_point
from initfast.theory.gains import gain
from initfast.theory.mean_field import chi, q_slope, variance_map
from initfast.theory.phase_diagrams import critical, half_stable
from initfast.theory.roots import NoSuchPoint


def second_moment(fan_in: int, variance: float, square: float, bias: float = 0.0) -> float:
    """Var(y) = fan_in Var(w) E x² + Var(b): of a linear layer whose weights have the mean 0.

    Arguments and source are those of :func:`scale_steps`.
    """
    return fan_in * variance * square + bias


def linear_stds(fan_in: int, variance: float, depth: int) -> tuple[float, ...]:
    """The std after each of so many linear layers, by :func:`second_moment` from E x² = 1.

    Example:
        >>> linear_stds(256, 1.0, 3), linear_stds(256, 1 / 256, 3)
        ((16.0, 256.0, 4096.0), (1.0, 1.0, 1.0))
    """
    squares = [1.0]
    for _ in range(depth):
        squares.append(second_moment(fan_in, variance, squares[-1]))
    return tuple(map(math.sqrt, squares[1:]))


def scale_steps(fan_in: int, variance: float, square: float = 1.0, bias: float = 0.0) -> list[str]:
    """Var(y) = fan_in Var(w) E x² + Var(b), step by step, with the numbers of one layer.

    Args:
        fan_in: how many inputs a unit sums over.
        variance: of the weights, whose mean is 0.
        square: E x², the second moment of the inputs.
        bias: the variance of the biases.

    Returns:
        A sentence or two a step; the last has the numbers.

    Source:
        LeCun et al. 1998, "Efficient BackProp", sec. 4.6; He et al. 2015, eq. 5 to 7.

    Example:
        >>> scale_steps(256, 1.0)[-1]
        'Var(y) = 256 * 1 * 1 = 256: the std of y is 16, that is 16 times the rms of x.'
    """
    result = second_moment(fan_in, variance, square, bias)
    more = f" + {bias:.4g}" if bias else ""
    times = math.sqrt(result / square) if square > 0 else math.inf
    return [
        f"A unit sums over its {fan_in} inputs: y = w_1 x_1 + ... + w_{fan_in} x_{fan_in} + b.",
        "The weights are drawn independently and with mean 0, so E y = 0 and Var(y) = E y^2.",
        "Squared, the sum has a product w_i w_j x_i x_j for each pair. Where i differs from j its "
        f"mean is 0: {fan_in} squares are left, each of mean Var(w) E x^2.",
        "So Var(y) = fan_in Var(w) E x^2 + Var(b). It is the second moment E x^2 that counts, not "
        "the variance: a mean of x is summed up too.",
        f"Var(y) = {fan_in} * {variance:.4g} * {square:.4g}{more} = {result:.4g}: the std of y is "
        f"{math.sqrt(result):.4g}, that is {times:.4g} times the rms of x.",
    ]


def activation_steps(name: str, width: int = 256) -> list[str]:
    """What an activation takes, which gain makes up for it, and whether that holds the scale.

    That the gain keeps a variance of 1 does not say that it holds it. Of GELU, SiLU, Mish,
    hardswish and ReLU² the unit gain is an unstable point: a deviation grows at every layer, by
    1.144, 1.173, 1.076, 1.224 and 2, and chance makes one. The steps say for how many layers it
    holds, and which weights and biases hold for good.

    Args:
        name: in ``initfast.ops.activations.ACTIVATIONS``.
        width: of the layers, for how many of them the scale holds.

    Returns:
        A sentence or two a step.

    Raises:
        ArgumentError: there is no such activation.

    Example:
        >>> activation_steps("relu")[2]
        'Every q is kept: the slope of the variance map is 1. Chance moves q, nothing more.'
    """
    factor, square = gain(name), variance_map(name, 1.0, 1.0)
    return [
        f"Where y is standard normal, E {name}(y)^2 = {square:.10g}: E x^2 of the next layer.",
        f"The gain 1 / sqrt({square:.6g}) = {factor:.10g} on the std of the weights makes up for "
        f"it: with Var(w) = {factor**2:.6g} / fan_in the next layer has q = Var(y) = 1 again.",
        *_torchs_gain(name, factor),
        *_stability(name, factor, width),
        _gradient(name),
        *(_critical(name, sigma_b) for sigma_b in (0.0, 0.1)),
    ]


def _torchs_gain(name: str, factor: float) -> list[str]:
    try:
        torchs = torch.nn.init.calculate_gain(name)  # type: ignore[arg-type]
    except ValueError:
        return []
    if math.isclose(torchs, factor, rel_tol=1e-9):
        return []
    return [f"torch's table has the gain {torchs:.6g}, a factor that has worked."]


def _stability(name: str, factor: float, width: int) -> list[str]:
    point = fixed_point(name, factor, 0.0)
    if point.stability == "neutral":
        return [
            "Every q is kept: the slope of the variance map is 1. Chance moves q, nothing more."
        ]
    if point.stability == "stable":
        return [
            f"That holds: a deviation of q from 1 is multiplied by {point.q_slope:.4g}, the slope "
            "of the variance map, at each layer."
        ]
    return [
        f"That does not hold: a deviation of q from 1 is multiplied by {point.q_slope:.4g}, the "
        f"slope of the variance map, at each layer, and chance makes one: {width} wide, q holds "
        f"for about {point.layers_held(width):.0f} layers.",
        *_stable_choice(name),
    ]


def _stable_choice(name: str) -> list[str]:
    try:
        point = half_stable(name)
    except NoSuchPoint as error:
        return [f"{error}."]
    return [
        f"A bias helps: Var(w) = {point.sigma_w**2:.10g} / fan_in and Var(b) = "
        f"{point.sigma_b**2:.10g} keep q = {point.q:.6g}, and there both slopes are 1, the "
        "variance map's and the gradient's."
    ]


def _gradient(name: str) -> str:
    factor = chi(name)
    way = "keeps its size" if abs(factor - 1) < 1e-9 else "grows" if factor > 1 else "falls"
    return (
        f"On the way back a gradient {way}: its square is multiplied by chi = fan_in Var(w) E f'^2"
        f" = {factor:.6g} at each layer."
    )


def _critical(name: str, sigma_b: float) -> str:
    start = f"The edge of chaos, chi = 1 where q settles, with Var(b) = {sigma_b**2:.4g}: "
    try:
        return f"{start}Var(w) = {critical(name, sigma_b) ** 2:.8g} / fan_in."
    except NoSuchPoint as error:
        return f"{start}there is none. {error}."


def bullets(steps: Iterable[str]) -> list[str]:
    """The lines of the steps as a list of at most 98 columns."""
    return [
        line
        for step in steps
        for line in textwrap.wrap(
            step, 98, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
        )
    ]


def table() -> list[tuple[str, float, float, float]]:
    """The name, gain, slope of the variance map and chi of each of our activations, at q = 1."""
    return [(name, gain(name), q_slope(name), chi(name)) for name in ACTIVATIONS]
