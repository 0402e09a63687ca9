"""The activations in plain PyTorch: what each computes, how torch spells it, and what it is.

Adding one takes its entry in :data:`ACTIVATIONS`, and its class and its line in
csrc/math, as activation.h says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SATURATED_SLOPE = 0.06
"""A value is saturated where the activation's slope is under this share of its steepest."""

_SELU_SCALE = 1.0507009873554804934
_SELU_DEPTH = 1.7580993408473768599  # scale * alpha


class Limit(NamedTuple):
    """Which alpha and beta an activation takes, and what is said of others, which names them."""

    holds: Callable[[float, float], bool]
    otherwise: str


class Spelling(NamedTuple):
    """A function of torch that is an activation where it is given these arguments."""

    function: str
    arguments: Mapping[str, Any] = {}


Backward = Callable[[Tensor, Tensor, float, float], Tensor]


class Activation(NamedTuple):
    """One activation.

    Attributes:
        value: of pre-activations, alpha and beta; a tensor of the same shape.
        backward: of gradients at the value, pre-activations, alpha and beta: the products of
            gradients and slopes, and 0, not NaN, of an infinite gradient where torch's backward
            writes 0 without multiplying.
        backward_at_result: the same of post-activations, where torch's backward has it from there
            too, and so keeps the result and not the pre-activation; None of others.
        saturated: of post-activations, alpha and beta: which are; None where none ever is, as of
            the rectifiers, whose flat side is zero rather than a plateau.
        parameters: what torch calls alpha and beta.
        defaults: torch's for them; 0 where there is none.
        limit: which of them it takes.
        keywords: further arguments of torch's function of its name, at their defaults.
        spellings: torch's functions of other names.
        module: its class in torch.nn, which keeps the arguments under their names.
        rectifier: whether the slope at zero is zero.
        clamp: whether it is flat from a point on, where a standard normal already reaches.
        gate: whether it opens and closes what it is multiplied with.
        scale: of alpha and beta: the fan-in times the variance of the weights at which the scale
            holds from layer to layer; None where that is 1 / E[act(Z)^2], Z standard normal.
        examples: other alphas and betas, for tests.
    """

    value: Callable[[Tensor, float, float], Tensor]
    backward: Backward
    saturated: Callable[[Tensor, float, float], Tensor] | None = None
    backward_at_result: Backward | None = None
    parameters: tuple[str, ...] = ()
    defaults: tuple[float, float] = (0.0, 0.0)
    limit: Limit | None = None
    keywords: Mapping[str, Any] = {}
    spellings: tuple[Spelling, ...] = ()
    module: type[nn.Module] | None = None
    rectifier: bool = False
    clamp: bool = False
    gate: bool = False
    scale: Callable[[float, float], float | None] = lambda a, b: None
    examples: tuple[tuple[float, float], ...] = ()

    def slope(self, z: Tensor, alpha: float, beta: float) -> Tensor:
        """The derivatives at z."""
        return self.backward(torch.ones_like(z), z, alpha, beta)


def _exponential_backward(
    grad: Tensor, z: Tensor, scale: float, depth: float, width: float
) -> Tensor:
    """In torch's order: where the exponential is subnormal, the slope alone may be zero."""
    steepest = torch.where(z > 0, scale, torch.full_like(z, depth / width))
    return grad * steepest * torch.exp(z.clamp(max=0) / width)


def _exponential_saturated(y: Tensor, scale: float, depth: float, width: float) -> Tensor:
    steepest = max(scale, depth / width)
    return (y < 0) & ((y + depth) / width < SATURATED_SLOPE * steepest)


def _gelu(z: Tensor) -> Tensor:
    """torch's, but of infinity always infinity: its vectors and their remainders differ."""
    return torch.where(z == math.inf, z, F.gelu(z))


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


def _hardswish_backward(grad: Tensor, z: Tensor) -> Tensor:
    inside = torch.where(z >= 3, grad, grad * (z / 3 + 0.5))
    return torch.where(z <= -3, 0.0, inside)


def _softsign_backward(grad: Tensor, z: Tensor) -> Tensor:
    """torch takes the quotient rule's two terms apart: infinity less infinity, of grad and of z."""
    return grad * (1 / (1 + z.abs()) ** 2) + ((grad - grad) + (z - z))


def _logistic(z: Tensor) -> Tensor:
    """torch's sigmoid, but that its lower tail ends only where e^z does."""
    e = torch.exp(-z.abs())
    return torch.where(z < 0, e, 1.0) / (1 + e)


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda z, a, b: z.clone(), lambda g, z, a, b: g.clone()),
    "relu": Activation(
        lambda z, a, b: F.relu(z),
        lambda g, z, a, b: torch.where(z <= 0, 0.0, g),
        backward_at_result=lambda g, y, a, b: torch.where(y <= 0, 0.0, g),
        spellings=(
            Spelling("clamp", {"min": 0, "max": None}),
            Spelling("clip", {"min": 0, "max": None}),
            Spelling("clamp_min", {"min": 0}),
        ),
        module=nn.ReLU,
        rectifier=True,
        scale=lambda a, b: 2.0,  # He et al. 2015
    ),
    "leaky_relu": Activation(
        lambda z, a, b: F.leaky_relu(z, a),
        lambda g, z, a, b: torch.where(z > 0, g, g * a),
        parameters=("negative_slope",),
        defaults=(0.01, 0.0),
        module=nn.LeakyReLU,
        scale=lambda a, b: 2 / (1 + a**2),
        examples=((0.2, 0.0),),
    ),
    "elu": Activation(
        lambda z, a, b: F.elu(z, a),
        lambda g, z, a, b: _exponential_backward(g, z, 1.0, a, 1.0),
        lambda y, a, b: _exponential_saturated(y, 1.0, a, 1.0),
        parameters=("alpha",),
        defaults=(1.0, 0.0),
        module=nn.ELU,
        examples=((0.5, 0.0),),
    ),
    "selu": Activation(
        lambda z, a, b: F.selu(z),
        lambda g, z, a, b: _exponential_backward(g, z, _SELU_SCALE, _SELU_DEPTH, 1.0),
        lambda y, a, b: _exponential_saturated(y, _SELU_SCALE, _SELU_DEPTH, 1.0),
        module=nn.SELU,
        scale=lambda a, b: 1.0,  # Klambauer et al. 2017
    ),
    "celu": Activation(
        lambda z, a, b: F.celu(z, a),
        lambda g, z, a, b: _exponential_backward(g, z, 1.0, a, a),
        lambda y, a, b: _exponential_saturated(y, 1.0, a, a),
        parameters=("alpha",),
        defaults=(1.0, 0.0),
        limit=Limit(lambda a, b: a > 0, "celu's alpha is {alpha}; expected a number above 0"),
        module=nn.CELU,
        examples=((2.0, 0.0),),
    ),
    "relu6": Activation(
        lambda z, a, b: F.relu6(z),
        lambda g, z, a, b: torch.where((z > 0) & (z < 6), g, 0.0),
        lambda y, a, b: y >= 6,
        spellings=(Spelling("hardtanh", {"min_val": 0, "max_val": 6}),),
        module=nn.ReLU6,
        rectifier=True,
        clamp=True,
    ),
    "gelu": Activation(
        lambda z, a, b: _gelu(z),
        lambda g, z, a, b: g * _gelu_slope(z),
        keywords={"approximate": "none"},
        module=nn.GELU,
    ),
    "gelu_tanh": Activation(
        lambda z, a, b: F.gelu(z, approximate="tanh"),
        lambda g, z, a, b: g * _gelu_tanh_slope(z),
        spellings=(Spelling("gelu", {"approximate": "tanh"}),),
    ),
    "silu": Activation(
        lambda z, a, b: F.silu(z),
        lambda g, z, a, b: g * (torch.sigmoid(z) * (1 + z * (1 - torch.sigmoid(z)))),
        module=nn.SiLU,
    ),
    "mish": Activation(
        lambda z, a, b: F.mish(z), lambda g, z, a, b: g * _mish_slope(z), module=nn.Mish
    ),
    "softplus": Activation(
        lambda z, a, b: F.softplus(z, a, b),
        lambda g, z, a, b: torch.where(z * a > b, g, g * _logistic(z * a)),
        parameters=("beta", "threshold"),
        defaults=(1.0, 20.0),
        module=nn.Softplus,
        examples=((2.0, 5.0),),
    ),
    "softsign": Activation(
        lambda z, a, b: F.softsign(z),
        lambda g, z, a, b: _softsign_backward(g, z),
        lambda y, a, b: (1 - y.abs()) ** 2 < SATURATED_SLOPE,
        module=nn.Softsign,
        scale=lambda a, b: 1.0,
    ),
    "sigmoid": Activation(
        lambda z, a, b: torch.sigmoid(z),
        lambda g, z, a, b: g * (torch.sigmoid(z) * (1 - torch.sigmoid(z))),
        lambda y, a, b: y * (1 - y) < SATURATED_SLOPE / 4,
        backward_at_result=lambda g, y, a, b: g * (y * (1 - y)),
        spellings=(Spelling("expit"),),
        module=nn.Sigmoid,
        gate=True,
    ),
    "logsigmoid": Activation(
        lambda z, a, b: F.logsigmoid(z), lambda g, z, a, b: g * _logistic(-z), module=nn.LogSigmoid
    ),
    "tanh": Activation(
        lambda z, a, b: torch.tanh(z),
        lambda g, z, a, b: g * (1 - torch.tanh(z) ** 2),
        lambda y, a, b: 1 - y * y < SATURATED_SLOPE,
        backward_at_result=lambda g, y, a, b: g * (1 - y * y),
        module=nn.Tanh,
        scale=lambda a, b: 1.0,  # where it is also critical (Schoenholz et al. 2017)
    ),
    "hardtanh": Activation(
        lambda z, a, b: F.hardtanh(z, a, b),
        lambda g, z, a, b: torch.where((z > a) & (z < b), g, 0.0),
        lambda y, a, b: (y <= a) | (y >= b),
        parameters=("min_val", "max_val"),
        defaults=(-1.0, 1.0),
        limit=Limit(
            lambda a, b: a <= b,
            "hardtanh's range is [{alpha}, {beta}]; expected min_val <= max_val",
        ),
        module=nn.Hardtanh,
        clamp=True,
        scale=lambda a, b: 1.0 if a < 0 < b else None,
        examples=((-0.5, 0.75),),
    ),
    "hardsigmoid": Activation(
        lambda z, a, b: F.hardsigmoid(z),
        lambda g, z, a, b: torch.where((z > -3) & (z < 3), g * (1 / 6), 0.0),
        lambda y, a, b: (y <= 0) | (y >= 1),
        module=nn.Hardsigmoid,
        clamp=True,
        gate=True,
    ),
    "hardswish": Activation(
        lambda z, a, b: F.hardswish(z),
        lambda g, z, a, b: _hardswish_backward(g, z),
        module=nn.Hardswish,
    ),
}
"""Every activation by its name in torch.nn.functional (gelu_tanh: gelu, approximate="tanh")."""

RECTIFIERS = frozenset(name for name, a in ACTIVATIONS.items() if a.rectifier)
CLAMPS = frozenset(name for name, a in ACTIVATIONS.items() if a.clamp)
GATES = frozenset(name for name, a in ACTIVATIONS.items() if a.gate)


def activation(name: str) -> Activation:
    """The activation of that name; RuntimeError, listing them, where there is none."""
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise RuntimeError(f"initfast: unknown activation '{name}'; expected one of {known}")
    return ACTIVATIONS[name]


def check_activation(name: str, alpha: float, beta: float) -> Activation:
    """The activation of that name; RuntimeError also where its parameters make none."""
    found = activation(name)
    if found.limit is not None and not found.limit.holds(alpha, beta):
        raise RuntimeError(f"initfast: {found.limit.otherwise.format(alpha=alpha, beta=beta)}")
    return found
