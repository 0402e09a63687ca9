"""What initialisers scale by: a weight's fans, and an activation's gain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

from initfast.errors import ArgumentError, kind_of
from initfast.init.axes import axes_of
from initfast.ops.activations import ACTIVATIONS

FanMode: TypeAlias = Literal["fan_in", "fan_out"]
"""Which fan a weight is scaled by, as in torch."""

AnyFanMode: TypeAlias = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
"""Also their means, as in Keras and JAX."""

Nonlinearity: TypeAlias = Literal[
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "identity",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "relu6",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "softplus",
    "softsign",
    "sigmoid",
    "logsigmoid",
    "tanh",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
]
"""What :func:`calculate_gain` knows."""

FAN_MODES: dict[str, Callable[[int, int], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
"""What a mode makes of fan_in and fan_out."""


def fan_in_and_fan_out(
    tensor: Tensor, groups: int = 1, transposed: bool = False, *, axes: str | None = None
) -> tuple[int, int]:
    """How many inputs an output sums over, and how many outputs an input reaches.

    Args:
        tensor: a weight: ``[out, in, ...]``; for a convolution ``[out, in / groups, ...]``; for a
            transposed one ``[in, out / groups, ...]``.
        groups: of a convolution. torch's initialisers take no notice of it: theirs is 1.
        transposed: whether it is a transposed convolution's; likewise.
        axes: what the dimensions are where they are not ``[out, in, ...]``: a word for each, "out",
            "in", "kernel" (a convolution's) or "batch" (each entry is a weight of its own, as an
            expert's), and "(3 out)" for three weights packed one after the other. It stands in the
            place of groups and transposed.

    Returns:
        (fan_in, fan_out).

    Raises:
        TypeError: tensor is none.
        ValueError: fewer than two dimensions, a first dimension that groups do not divide, or axes
            that do not fit the tensor.

    Example:
        >>> fan_in_and_fan_out(torch.empty(64, 16, 3, 3), groups=4)
        (144, 144)
        >>> fan_in_and_fan_out(torch.empty(8, 64, 16), axes="batch out in")  # eight experts
        (16, 64)
        >>> fan_in_and_fan_out(torch.empty(96, 32), axes="(3 out) in")  # queries, keys and values
        (32, 32)
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"fan_in_and_fan_out: tensor is {kind_of(tensor)}; expected a weight")
    return fans_of(tuple(tensor.shape), groups, transposed, axes)


def fans_of(
    shape: tuple[int, ...], groups: int = 1, transposed: bool = False, axes: str | None = None
) -> tuple[int, int]:
    """The same, of a weight of that shape."""
    if len(shape) < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions "
            f"(its shape is {shape})"
        )
    if axes is not None:
        if groups != 1 or transposed:
            raise ArgumentError(
                f"axes is {axes!r}, groups is {groups} and transposed is {transposed}; expected "
                "axes alone, which say where inputs and outputs are"
            )
        return axes_of(axes).fans(shape)
    if groups < 1 or shape[0] % groups != 0:
        raise ValueError(f"groups is {groups}; expected a divisor of {shape[0]}")
    field = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * field, shape[0] // groups * field
    return (fan_out, fan_in) if transposed else (fan_in, fan_out)


def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    """The gain for an activation: torch's where torch has one, else theory's.

    torch's are factors that have worked, not all of them those that keep the scale: tanh's is 5/3,
    where 1.5925 keeps the second moment of a standard normal input, selu's 3/4 (1) and sigmoid's 1
    (1.8462). Every other activation has 1 / √E f(Z)², as :func:`initfast.theory.gain` computes it;
    that of an activation with other parameters, or of a function, goes in as ``gain=``.

    Args:
        nonlinearity: linear, conv1d ... conv_transpose3d, sigmoid (1), tanh (5/3), relu (√2),
            leaky_relu (√(2 / (1 + slope²))) or selu (3/4), as in torch; or another name in
            ``initfast.ops.activations.ACTIVATIONS``: gelu (1.5335), silu (1.6765), mish (1.4868).
        param: leaky_relu's negative slope; 0.01 where None. No other activation takes notice.

    Returns:
        The gain: a factor for the weights' standard deviation.

    Raises:
        ValueError: any other name, or a slope that is no number.

    Source:
        torch.nn.init.calculate_gain; He et al. 2015, eq. 7 and 10.

    Example:
        >>> round(calculate_gain("leaky_relu", 0.2), 4), round(calculate_gain("gelu"), 4)
        (1.3868, 1.5335)
    """
    gains = {"sigmoid": 1, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4, "linear": 1}
    gains |= {f"conv{kind}{d}d": 1 for kind in ("", "_transpose") for d in (1, 2, 3)}
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity in gains:
        return gains[nonlinearity]
    if nonlinearity not in ACTIVATIONS:
        known = ", ".join(sorted({*gains, *ACTIVATIONS}))
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}; expected one of {known}")
    from initfast.theory.gains import gain  # few programs need it, and it would be imported first

    return gain(nonlinearity)
