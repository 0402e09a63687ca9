"""The operators in plain PyTorch: the specification, and the fallback without native kernels.

Each function here is the twin of the operator of the same name in :mod:`initfast.ops`: same
arguments, same results, on any device, without a synchronisation. The moments are computed in
float64. Statistics are of the values as stored, after rounding to the tensor's dtype; saturation
is judged before that rounding.

`by` is the module that measures: the specification's own, or
:mod:`initfast.ops.vectorised_moments`, which takes its place where the CPU has no native kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from initfast.ops import reference_moments
from initfast.ops.activations import ACTIVATIONS, check_activation
from initfast.ops.checks import (
    ChainBackward,
    chain_layers,
    check_act,
    check_act_backward,
    check_dtype,
    check_linear,
    check_units,
)
from initfast.torch_state import torchs_linear


def _wide(t: Tensor) -> Tensor:
    """Detached, 16-bit floats as float32: what the kernels compute with."""
    t = t.detach()
    return t if t.dtype == torch.float64 else t.float()


def _laid_out_like(z: Tensor, result: Tensor) -> Tensor:
    """The result with the strides that torch.empty_like gives, as every backend returns it."""
    like = torch.empty_like(z)
    return result if result.stride() == like.stride() else like.copy_(result)


def moments(x: Tensor, by: ModuleType = reference_moments) -> Tensor:
    """The moments of x as one row of float64 columns."""
    check_dtype(x, "moments", "x")
    row: Tensor = by.row_of(x)
    return row


def unit_moments(
    x: Tensor, unit_dim: int, with_moments: bool, by: ModuleType = reference_moments
) -> tuple[Tensor, Tensor]:
    """The moments of x, empty where they are not wanted, and those of each of its units."""
    check_units(x, unit_dim)
    row = by.row_of(x) if with_moments else x.new_empty(0, dtype=torch.float64)
    return row, by.units_of(x, unit_dim)


def act(
    z: Tensor,
    act: str,
    alpha: float,
    beta: float,
    unit_dim: int,
    by: ModuleType = reference_moments,
) -> tuple[Tensor, Tensor, Tensor]:
    """y = act(z), the moments of z and y, and which units are live."""
    function = check_activation(act, alpha, beta)
    check_act(z, unit_dim)
    exact = function.value(_wide(z), alpha, beta)
    saturated = function.saturated(exact, alpha, beta) if function.saturated else None
    y = _laid_out_like(z, exact.to(z.dtype))
    return y, torch.stack([by.row_of(z), by.row_of(y, saturated)]), by.live_units(y, unit_dim)


def act_(
    z: Tensor,
    act: str,
    alpha: float,
    beta: float,
    unit_dim: int,
    by: ModuleType = reference_moments,
) -> tuple[Tensor, Tensor]:
    """z = act(z), the moments of z before and after, and which units are live."""
    check_activation(act, alpha, beta)
    check_act(z, unit_dim, "act_")
    y, moments, live = globals()["act"](z, act, alpha, beta, unit_dim, by)
    z.copy_(y)
    return moments, live


def act_backward(
    grad_y: Tensor,
    z: Tensor,
    act: str,
    alpha: float,
    beta: float,
    by: ModuleType = reference_moments,
) -> tuple[Tensor, Tensor]:
    """grad_z = grad_y act'(z), and the moments of grad_z and grad_y."""
    function = check_activation(act, alpha, beta)
    check_act_backward(grad_y, z)
    grad_z = function.backward(_wide(grad_y), _wide(z), alpha, beta)
    return _laid_out_and_measured(grad_z, z, grad_y, by)


def _laid_out_and_measured(
    grad_z: Tensor, z: Tensor, grad_y: Tensor, by: ModuleType
) -> tuple[Tensor, Tensor]:
    """The gradient at z, in z's dtype and strides, and the moments of it and of grad_y."""
    grad_z = _laid_out_like(z, grad_z.to(z.dtype))
    return grad_z, torch.stack([by.row_of(grad_z), by.row_of(grad_y)])


def linear_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    act: str,
    alpha: float,
    beta: float,
    save_z: bool,
    by: ModuleType = reference_moments,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y = act(x weight^T + bias), z if asked for, the moments of z, y and weight, live units."""
    check_activation(act, alpha, beta)
    check_linear(x, weight, bias)
    with torch.autocast(x.device.type, enabled=False):  # every operator keeps its inputs' dtype
        z = torchs_linear(x.detach(), weight.detach(), None if bias is None else bias.detach())
    y, pair, live = globals()["act"](z, act, alpha, beta, -1, by)
    moments = torch.cat([pair, by.row_of(weight)[None]])
    return y, z if save_z else z.new_empty(0), moments, live


def linear_act_chain(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    acts: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
    by: ModuleType = reference_moments,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """linear_act after linear_act: the last y, the moments of each, the live units of all.

    And the moments of each layer's units, one layer's four rows after the other's.
    """
    moments, live, units = [], [], []
    for layer in chain_layers(weights, biases, acts, alphas, betas):
        x, _, rows, is_live = linear_act(x, *layer, False, by)
        moments.append(rows)
        live.append(is_live)
        units.append(by.units_of(x, -1).flatten())
    return x, torch.stack(moments), torch.cat(live), torch.cat(units)


def linear_gradients(
    grad_z: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of a linear layer's x, weight and bias, those that are needed.

    After act_backward this is the way back of every linear_act: of the operator in autograd, and of
    the chain's specification below. (csrc/binding/chain_backward.h is its counterpart.)
    """
    count = math.prod(x.shape[:-1])  # reshape cannot tell a -1 beside a dimension of 0
    flat = grad_z.reshape(count, weight.shape[0])
    grad_x = (flat @ weight).reshape(x.shape) if needed[0] else None
    grad_weight = flat.t() @ x.reshape(count, weight.shape[1]) if needed[1] else None
    return grad_x, grad_weight, flat.sum(0) if needed[2] else None


ChainGradients = tuple[Tensor, list[Tensor], list[Tensor], Tensor]


@torch.no_grad()
def linear_act_chain_backward(
    *arguments: Any, by: ModuleType = reference_moments
) -> ChainGradients:
    """The gradients of a chain, made of act_backward, the library's products, and moments.

    Its arguments are those of :class:`initfast.ops.checks.ChainBackward`. It returns the gradients
    of x, of the weights and of the biases, each empty where it is not wanted, and the moments of
    the gradient at each layer's result and at its weight, ``[layers, 2, columns]``.
    """
    chain = ChainBackward(*arguments).checked()
    grad, empty = chain.grad_y, chain.grad_y.new_empty
    grad_weights, grad_biases, rows = [], [], []
    for i in reversed(range(len(chain.zs))):
        x, weight, of_weight = chain.inputs[i], chain.weights[i], chain.weights_wanted[i]
        act, z = ACTIVATIONS[chain.acts[i]], chain.zs[i]
        backward: Any = act.backward_at_result if chain.slope_at_result[i] else act.backward
        grad_z = backward(_wide(grad), _wide(z), chain.alphas[i], chain.betas[i])
        grad_z, (_, at_y) = _laid_out_and_measured(grad_z, z, grad, by)
        needed = i > 0 or chain.wants_x, of_weight > 0, chain.biases_wanted[i]
        found = linear_gradients(grad_z, x, weight, needed)
        grad, grad_weight, grad_bias = (empty(0) if g is None else g for g in found)
        rows.append(torch.stack([at_y, moments(grad_weight, by)]))
        grad_weights.append(grad_weight if of_weight == 2 else empty(0))
        grad_biases.append(grad_bias)
    return grad, grad_weights[::-1], grad_biases[::-1], torch.stack(rows[::-1])


MEASURING = (
    "moments",
    "unit_moments",
    "act",
    "act_",
    "act_backward",
    "linear_act",
    "linear_act_chain",
    "linear_act_chain_backward",
)
"""The operators that measure: those that take `by`."""
