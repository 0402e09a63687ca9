"""The operators in plain PyTorch: the specification, and the fallback without native kernels.

Each function here is the twin of the operator of the same name in :mod:`initfast.ops`: same
arguments, same results, on any device, without a synchronisation. The moments are computed in
float64. Statistics are of the values as stored, after rounding to the tensor's dtype; saturation
is judged before that rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MOMENT_COLUMNS = ("count", "nonfinite", "zero", "saturated", "mean", "m2", "min", "max")

SATURATED_SLOPE = 0.06
"""A value is saturated where the activation's slope is under this share of its steepest."""

_linear = F.linear  # torch's own, whatever is put in its place

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

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


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


def check_dtype(t: Tensor, op: str, argument: str) -> None:
    """Raise RuntimeError unless t is a dense tensor of a dtype that the operators take."""
    if t.layout != torch.strided:
        raise RuntimeError(
            f"initfast::{op}: {argument} has layout {t.layout}; expected a dense tensor"
        )
    if t.dtype not in _DTYPES:
        raise RuntimeError(
            f"initfast::{op}: {argument} has an unsupported dtype ({t.dtype}); "
            "expected float32, float64, bfloat16 or float16"
        )


def _check_same(a: Tensor, b: Tensor, op: str, a_name: str, b_name: str) -> None:
    if a.dtype != b.dtype:
        raise RuntimeError(
            f"initfast::{op}: {a_name} is {a.dtype} but {b_name} is {b.dtype}; expected one dtype"
        )
    if a.device != b.device:
        raise RuntimeError(
            f"initfast::{op}: {a_name} is on {a.device} but {b_name} is on {b.device}; "
            "expected one device"
        )


def check_act(z: Tensor, unit_dim: int) -> None:
    """Raise RuntimeError unless z can be activated and has that dimension."""
    check_dtype(z, "act", "z")
    if z.dim() > 0 and not -z.dim() <= unit_dim < z.dim():
        raise RuntimeError(f"initfast::act: unit_dim is {unit_dim} but z has shape {list(z.shape)}")


def check_act_backward(grad_y: Tensor, z: Tensor) -> None:
    """Raise RuntimeError unless grad_y can be the gradient of act(z)."""
    check_dtype(z, "act_backward", "z")
    _check_same(z, grad_y, "act_backward", "z", "grad_y")
    if grad_y.shape != z.shape:
        raise RuntimeError(
            f"initfast::act_backward: grad_y has shape {list(grad_y.shape)} "
            f"but z has shape {list(z.shape)}"
        )


def check_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise RuntimeError unless x, weight and bias make a linear layer."""
    check_dtype(x, "linear_act", "x")
    _check_same(x, weight, "linear_act", "x", "weight")
    if weight.dim() != 2:
        raise RuntimeError(
            f"initfast::linear_act: weight has shape {list(weight.shape)}; "
            "expected [out_features, in_features]"
        )
    if x.dim() < 1 or x.shape[-1] != weight.shape[1]:
        raise RuntimeError(
            f"initfast::linear_act: x has shape {list(x.shape)} but weight has shape "
            f"{list(weight.shape)}; expected x's last dimension to be {weight.shape[1]}"
        )
    if bias is not None:
        _check_same(x, bias, "linear_act", "x", "bias")
        if bias.dim() != 1 or bias.shape[0] != weight.shape[0]:
            raise RuntimeError(
                f"initfast::linear_act: bias has shape {list(bias.shape)}; "
                f"expected [{weight.shape[0]}]"
            )


def check_chain(weights: Sequence[Tensor], *others: Sequence[Any]) -> None:
    """Raise RuntimeError unless there are as many of each, and at least one."""
    counts = [len(weights), *map(len, others)]
    if counts[0] == 0 or len(set(counts)) > 1:
        raise RuntimeError(
            "initfast::linear_act_chain: {} weights, {} biases, {} activations, {} alphas and {} "
            "betas; expected as many of each, and at least one".format(*counts)
        )


def _wide(t: Tensor) -> Tensor:
    """Detached, 16-bit floats as float32: what the kernels compute with."""
    t = t.detach()
    return t if t.dtype == torch.float64 else t.float()


def _laid_out_like(z: Tensor, result: Tensor) -> Tensor:
    """The result with the strides that torch.empty_like gives, as every backend returns it."""
    like = torch.empty_like(z)
    return result if result.stride() == like.stride() else like.copy_(result)


def _row(x: Tensor, saturated: Tensor | None = None) -> Tensor:
    """The eight columns of one row of moments."""
    x = x.detach()
    columns = x.new_zeros(8, dtype=torch.float64)
    columns[6], columns[7] = math.inf, -math.inf
    if x.numel() == 0:
        return columns
    finite = torch.isfinite(x)
    value = torch.where(finite, x, torch.zeros_like(x)).double()
    count = finite.sum()
    low = torch.where(finite, value, math.inf).amin()
    high = torch.where(finite, value, -math.inf).amax()
    mean = value.sum() / count.clamp(min=1)
    mean = torch.minimum(torch.maximum(mean, low), high).where(count > 0, 0.0)
    deviation = torch.where(finite, value - mean, 0.0)
    m2 = deviation.square().sum()
    m2 = torch.where(low < high, m2, 0.0)
    none = count.new_zeros(())
    return torch.stack(
        [
            torch.full_like(mean, x.numel()),
            (~finite).sum().double(),
            (x == 0).sum().double(),
            (none if saturated is None else saturated.sum()).double(),
            mean,
            m2,
            low,
            high,
        ]
    )


def moments(x: Tensor) -> Tensor:
    """The moments of x as one row of eight float64 columns."""
    check_dtype(x, "moments", "x")
    return _row(x)


def act(
    z: Tensor, act: str, alpha: float, beta: float, unit_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """y = act(z), the moments of z and y, and which units are live."""
    function = check_activation(act, alpha, beta)
    check_act(z, unit_dim)
    exact = function.value(_wide(z), alpha, beta)
    saturated = function.saturated(exact, alpha, beta) if function.saturated else None
    y = _laid_out_like(z, exact.to(z.dtype))
    nonzero = (y != 0).movedim(unit_dim, 0) if y.dim() > 0 else (y != 0)[None]
    live = nonzero.flatten(1).any(1) if nonzero.dim() > 1 else nonzero.clone()
    return y, torch.stack([_row(z), _row(y, saturated)]), live


def act_backward(
    grad_y: Tensor, z: Tensor, act: str, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    """grad_z = grad_y act'(z), and the moments of grad_z and grad_y."""
    function = check_activation(act, alpha, beta)
    check_act_backward(grad_y, z)
    grad_z = _wide(grad_y) * function.slope(_wide(z), alpha, beta)
    grad_z = _laid_out_like(z, grad_z.to(z.dtype))
    return grad_z, torch.stack([_row(grad_z), _row(grad_y)])


def linear_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    act: str,
    alpha: float,
    beta: float,
    save_z: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y = act(x weight^T + bias), z if asked for, the moments of z, y and weight, live units."""
    check_activation(act, alpha, beta)
    check_linear(x, weight, bias)
    with torch.autocast(x.device.type, enabled=False):  # every operator keeps its inputs' dtype
        z = _linear(x.detach(), weight.detach(), None if bias is None else bias.detach())
    y, pair, live = globals()["act"](z, act, alpha, beta, -1)
    moments = torch.cat([pair, _row(weight)[None]])
    return y, z if save_z else z.new_empty(0), moments, live


def linear_act_chain(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    acts: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """linear_act after linear_act: the last y, the moments of each, the live units of all."""
    check_chain(weights, biases, acts, alphas, betas)
    moments, live = [], []
    for layer in zip(weights, biases, acts, alphas, betas, strict=True):
        x, _, rows, units = linear_act(x, *layer, False)
        moments.append(rows)
        live.append(units)
    return x, torch.stack(moments), torch.cat(live)
