"""The activations in plain PyTorch: value, slope and saturation of each, by its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SATURATED_SLOPE = 0.06
"""A value is saturated where the activation's slope is under this share of its steepest."""

_SELU_SCALE = 1.0507009873554804934
_SELU_DEPTH = 1.7580993408473768599  # scale * alpha


class Activation(NamedTuple):
    """One activation: its value, its slope, and where it is saturated.

    ``value(z, alpha, beta)`` and ``slope(z, alpha, beta)`` map pre-activations to tensors of the
    same shape; ``saturated(y, alpha, beta)`` maps post-activations to a boolean mask, or is None
    for the rectifiers, whose flat side is zero rather than a plateau. ``defaults`` are alpha, beta.
    """

    value: Callable[[Tensor, float, float], Tensor]
    slope: Callable[[Tensor, float, float], Tensor]
    saturated: Callable[[Tensor, float, float], Tensor] | None = None
    defaults: tuple[float, float] = (0.0, 0.0)


def _step(condition: Tensor, z: Tensor) -> Tensor:
    return condition.to(z.dtype)


def _exponential_slope(z: Tensor, scale: float, depth: float, width: float) -> Tensor:
    left = depth / width * torch.exp(z.clamp(max=0) / width)
    return torch.where(z > 0, torch.full_like(z, scale), left)


def _exponential_saturated(y: Tensor, scale: float, depth: float, width: float) -> Tensor:
    steepest = max(scale, depth / width)
    return (y < 0) & ((y + depth) / width < SATURATED_SLOPE * steepest)


def _gelu_slope(z: Tensor) -> Tensor:
    density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return 0.5 * torch.special.erfc(-z / math.sqrt(2)) + z * density


def _gelu_tanh_slope(z: Tensor) -> Tensor:
    root = math.sqrt(2 / math.pi)
    t = torch.tanh(root * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * root * (1 + 3 * 0.044715 * z * z)


def _mish_slope(z: Tensor) -> Tensor:
    gate = torch.tanh(F.softplus(z))
    return gate + z * torch.sigmoid(z) * (1 - gate * gate)


def _hardswish_slope(z: Tensor) -> Tensor:
    inside = torch.where(z >= 3, torch.ones_like(z), z / 3 + 0.5)
    return torch.where(z <= -3, torch.zeros_like(z), inside)


def _softplus_slope(z: Tensor, beta: float, threshold: float) -> Tensor:
    return torch.where(z * beta > threshold, torch.ones_like(z), torch.sigmoid(z * beta))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda z, a, b: z.clone(), lambda z, a, b: torch.ones_like(z)),
    "relu": Activation(lambda z, a, b: F.relu(z), lambda z, a, b: 1 - _step(z <= 0, z)),
    "leaky_relu": Activation(
        lambda z, a, b: F.leaky_relu(z, a),
        lambda z, a, b: torch.where(z > 0, torch.ones_like(z), torch.full_like(z, a)),
        defaults=(0.01, 0.0),
    ),
    "elu": Activation(
        lambda z, a, b: F.elu(z, a),
        lambda z, a, b: _exponential_slope(z, 1.0, a, 1.0),
        lambda y, a, b: _exponential_saturated(y, 1.0, a, 1.0),
        (1.0, 0.0),
    ),
    "selu": Activation(
        lambda z, a, b: F.selu(z),
        lambda z, a, b: _exponential_slope(z, _SELU_SCALE, _SELU_DEPTH, 1.0),
        lambda y, a, b: _exponential_saturated(y, _SELU_SCALE, _SELU_DEPTH, 1.0),
    ),
    "celu": Activation(
        lambda z, a, b: F.celu(z, a),
        lambda z, a, b: _exponential_slope(z, 1.0, a, a),
        lambda y, a, b: _exponential_saturated(y, 1.0, a, a),
        (1.0, 0.0),
    ),
    "relu6": Activation(
        lambda z, a, b: F.relu6(z),
        lambda z, a, b: _step((z > 0) & (z < 6), z),
        lambda y, a, b: y >= 6,
    ),
    "gelu": Activation(lambda z, a, b: F.gelu(z), lambda z, a, b: _gelu_slope(z)),
    "gelu_tanh": Activation(
        lambda z, a, b: F.gelu(z, approximate="tanh"), lambda z, a, b: _gelu_tanh_slope(z)
    ),
    "silu": Activation(
        lambda z, a, b: F.silu(z),
        lambda z, a, b: torch.sigmoid(z) * (1 + z * (1 - torch.sigmoid(z))),
    ),
    "mish": Activation(lambda z, a, b: F.mish(z), lambda z, a, b: _mish_slope(z)),
    "softplus": Activation(
        lambda z, a, b: F.softplus(z, a, b),
        lambda z, a, b: _softplus_slope(z, a, b),
        defaults=(1.0, 20.0),
    ),
    "softsign": Activation(
        lambda z, a, b: F.softsign(z),
        lambda z, a, b: 1 / (1 + z.abs()) ** 2,
        lambda y, a, b: (1 - y.abs()) ** 2 < SATURATED_SLOPE,
    ),
    "sigmoid": Activation(
        lambda z, a, b: torch.sigmoid(z),
        lambda z, a, b: torch.sigmoid(z) * (1 - torch.sigmoid(z)),
        lambda y, a, b: y * (1 - y) < SATURATED_SLOPE / 4,
    ),
    "logsigmoid": Activation(lambda z, a, b: F.logsigmoid(z), lambda z, a, b: torch.sigmoid(-z)),
    "tanh": Activation(
        lambda z, a, b: torch.tanh(z),
        lambda z, a, b: 1 - torch.tanh(z) ** 2,
        lambda y, a, b: 1 - y * y < SATURATED_SLOPE,
    ),
    "hardtanh": Activation(
        lambda z, a, b: F.hardtanh(z, a, b),
        lambda z, a, b: _step((z > a) & (z < b), z),
        lambda y, a, b: (y <= a) | (y >= b),
        (-1.0, 1.0),
    ),
    "hardsigmoid": Activation(
        lambda z, a, b: F.hardsigmoid(z),
        lambda z, a, b: _step((z > -3) & (z < 3), z) / 6,
        lambda y, a, b: (y <= 0) | (y >= 1),
    ),
    "hardswish": Activation(lambda z, a, b: F.hardswish(z), lambda z, a, b: _hardswish_slope(z)),
}
"""Every activation by its name in torch.nn.functional (gelu_tanh: gelu, approximate="tanh")."""


def activation(name: str) -> Activation:
    """The activation of that name; RuntimeError, listing them, where there is none."""
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise RuntimeError(f"initfast: unknown activation '{name}'; expected one of {known}")
    return ACTIVATIONS[name]


def check_activation(name: str, alpha: float, beta: float) -> Activation:
    """The activation of that name; RuntimeError also where its parameters make none."""
    if name == "celu" and not alpha > 0:
        raise RuntimeError(f"initfast: celu's alpha is {alpha}; expected a number above 0")
    if name == "hardtanh" and not alpha <= beta:
        raise RuntimeError(
            f"initfast: hardtanh's range is [{alpha}, {beta}]; expected min_val <= max_val"
        )
    return activation(name)
