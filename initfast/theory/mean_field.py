"""The variance of the signal from layer to layer, and the gradient's, at infinite width.

There a pre-activation is normal. With weights of variance sigma_w² / fan_in and biases of variance
sigma_b² its variance goes by the variance map q -> sigma_w² E f(√q Z)² + sigma_b², Z standard
normal (Poole et al. 2016, the length map), and the gradient's by chi = sigma_w² E f'(√q Z)²
(Schoenholz et al. 2017, on gradients).
"""

from __future__ import annotations

import math

from initfast.errors import ArgumentError
from initfast.theory.elementwise import Activation
from initfast.theory.gains import gain
from initfast.theory.mesh import Mesh, mesh
from initfast.theory.quadrature import Expectations


def checked(f: Mesh, q: float, sigma_w: float | None, sigma_b: float) -> tuple[float, float]:
    """sigma_w and sigma_b, the gain in the place of None; ArgumentError unless all are right."""
    if not (q > 0 and math.isfinite(q)):
        raise ArgumentError(f"q is {q}; expected a variance, above 0")
    return (gain(f) if sigma_w is None else sigma("sigma_w", sigma_w)), sigma("sigma_b", sigma_b)


def sigma(name: str, value: float) -> float:
    """The value of that name; ArgumentError unless it is a standard deviation."""
    if not (value >= 0 and math.isfinite(value)):
        raise ArgumentError(f"{name} is {value}; expected a standard deviation, not negative")
    return float(value)


def variance_map(
    f: Activation | Mesh, q: float, sigma_w: float | None = None, sigma_b: float = 0.0
) -> float:
    """The variance of the next layer's pre-activations, sigma_w² E f(√q Z)² + sigma_b².

    Args:
        f: as :func:`gain` takes it.
        q: the variance of a pre-activation.
        sigma_w: √fan_in times the std of the weights; ``gain(f)``, which keeps a variance of 1,
            where None.
        sigma_b: the std of the biases.

    Returns:
        The variance.

    Raises:
        ArgumentError: q is not above 0, a sigma is negative; and what :func:`gain` raises.

    Source:
        Poole et al. 2016, the length map.

    Example:
        >>> round(initfast.theory.variance_map("relu", 3.0, 1.0), 12)
        1.5
    """
    found = mesh(f)
    w, b = checked(found, q, sigma_w, sigma_b)
    return w * w * Expectations(found, 0.0, math.sqrt(q)).second + b * b


def q_slope(f: Activation | Mesh, q: float = 1.0, sigma_w: float | None = None) -> float:
    """The slope of the variance map, sigma_w² E[(Z² - 1) f(√q Z)²] / (2 q).

    At a fixed point a deviation of the variance is multiplied by it at each layer. Above 1 the
    point is unstable: with the gain of GELU (1.144), SiLU (1.173), Mish (1.076), hardswish (1.224)
    or ReLU² (2) a variance above 1 runs away and one below 1 fades, though the gain is right; that
    of ReLU is 1, that of tanh 0.461. :func:`half_stable` has weights and biases that hold.

    Arguments and errors are those of :func:`variance_map`.

    Returns:
        The slope.

    Source:
        Schoenholz et al. 2017, xi_q, with Stein's lemma in the place of the derivative: so it is
        right for kinks and jumps.

    Example:
        >>> [round(initfast.theory.q_slope(name), 3) for name in ("gelu", "silu", "relu", "tanh")]
        [1.144, 1.173, 1.0, 0.461]
    """
    found = mesh(f)
    w, _ = checked(found, q, sigma_w, 0.0)
    return w * w * Expectations(found, 0.0, math.sqrt(q)).slope_of_second


def chi(f: Activation | Mesh, q: float = 1.0, sigma_w: float | None = None) -> float:
    """By how much a layer multiplies a gradient's square, sigma_w² E f'(√q Z)².

    It multiplies the square of a small difference between two inputs too. Below 1 both vanish with
    depth, the ordered phase; above 1 they explode, the chaotic one; at 1, the edge of chaos, a deep
    net can learn.

    Arguments and errors are those of :func:`variance_map`.

    Returns:
        chi; infinite where f jumps.

    Source:
        Poole et al. 2016, chi_1; Schoenholz et al. 2017, on gradients.

    Example:
        >>> round(initfast.theory.chi("relu"), 12), round(initfast.theory.chi("gelu"), 4)
        (1.0, 1.072)
    """
    found = mesh(f)
    w, _ = checked(found, q, sigma_w, 0.0)
    return w * w * Expectations(found, 0.0, math.sqrt(q)).squared_slope


def mean_field_stds(f: Activation | Mesh, v: float, depth: int) -> tuple[float, ...]:
    """The std of the signal after each layer of an infinitely wide net without biases.

    Args:
        f: the activation after each linear layer, as :func:`gain` takes it.
        v: the fan-in times the variance of the weights.
        depth: how many layers.

    Returns:
        One std a layer, for inputs of zero mean and unit variance.

    Source:
        Poole et al. 2016, the length map.

    Example:
        >>> [round(std, 2) for std in mean_field_stds(torch.tanh, 1.0, 4)]
        [0.63, 0.49, 0.41, 0.36]
    """
    found = mesh(f)
    second, stds = 1.0, []
    for _ in range(depth):
        signal = Expectations(found, 0.0, math.sqrt(v * second))
        second = signal.second
        stds.append(math.sqrt(signal.variance))
    return tuple(stds)
