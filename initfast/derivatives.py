"""The operators' gradients: through y, and of `moments`; other moments and live carry none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from initfast.arguments import check_chain_backward
from initfast.schemas import definitions


def _keep_linear(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, _, ctx.act, ctx.alpha, ctx.beta, save_z = inputs
    _, z, moments, live = output
    ctx.mark_non_differentiable(z, moments, live)
    ctx.has_z = save_z
    ctx.save_for_backward(x, weight, z)


def _linear_act_gradient(ctx: Any, grad_y: Tensor, *_: Any) -> tuple[Any, ...]:
    x, weight, z = ctx.saved_tensors
    grad_z = grad_y
    if ctx.act != "identity":
        if not ctx.has_z:
            raise RuntimeError(
                "initfast::linear_act: the gradient needs the pre-activation; "
                "expected save_z=True where an argument requires a gradient"
            )
        grad_z, _moments = torch.ops.initfast.act_backward(grad_y, z, ctx.act, ctx.alpha, ctx.beta)
    return (*linear_gradients(grad_z, x, weight, ctx.needs_input_grad), None, None, None, None)


def linear_gradients(
    grad_z: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of a linear layer's x, weight and bias, those that are needed."""
    count = math.prod(x.shape[:-1])  # reshape cannot tell a -1 beside a dimension of 0
    rows = grad_z.reshape(count, weight.shape[0])
    grad_x = (rows @ weight).reshape(x.shape) if needed[0] else None
    grad_weight = rows.t() @ x.reshape(count, weight.shape[1]) if needed[1] else None
    return grad_x, grad_weight, rows.sum(0) if needed[2] else None


def _keep_act(ctx: Any, inputs: Any, output: Any) -> None:
    z, ctx.act, ctx.alpha, ctx.beta, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(z)


def _act_gradient(ctx: Any, grad_y: Tensor, *_: Any) -> tuple[Any, ...]:
    (z,) = ctx.saved_tensors
    grad_z, _moments = torch.ops.initfast.act_backward(grad_y, z, ctx.act, ctx.alpha, ctx.beta)
    return grad_z, None, None, None, None


def _keep_moments(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _moments_gradient(ctx: Any, grad: Tensor) -> Tensor:
    """Of mean and m2 by calculus; of an extreme, shared by the elements that attain it."""
    x, row = ctx.saved_tensors
    count, nonfinite, _, _, mean, _, low, high = row.unbind()
    _, _, _, _, grad_mean, grad_m2, grad_low, grad_high = grad.unbind()
    wide = x.double()
    lowest, highest = wide == low, wide == high
    slope = grad_mean / (count - nonfinite) + 2 * grad_m2 * (wide - mean)
    slope = slope + lowest * (grad_low / lowest.sum()) + highest * (grad_high / highest.sum())
    return torch.where(torch.isfinite(x), slope, 0.0).to(x.dtype)


def _no_double_backward(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "initfast::act_backward has no gradient of its own: second derivatives through "
        "initfast's operators are not supported; use the plain torch activation for them"
    )


def _no_double_chain_backward(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "initfast::linear_act_chain_backward has no gradient of its own: second derivatives are "
        "torch's, through its linear layers and activations"
    )


def _no_chain_gradient(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "initfast::linear_act_chain has no gradient: where one is wanted, call linear_act for each"
    )


torch.library.register_autograd(
    "initfast::linear_act", _linear_act_gradient, setup_context=_keep_linear, lib=definitions
)
torch.library.register_autograd(
    "initfast::act", _act_gradient, setup_context=_keep_act, lib=definitions
)
torch.library.register_autograd(
    "initfast::moments", _moments_gradient, setup_context=_keep_moments, lib=definitions
)
torch.library.register_autograd("initfast::act_backward", _no_double_backward, lib=definitions)
torch.library.register_autograd("initfast::linear_act_chain", _no_chain_gradient, lib=definitions)
torch.library.register_autograd(
    "initfast::linear_act_chain_backward", _no_double_chain_backward, lib=definitions
)


# ---- the way back through a chain, on devices without a kernel for all of it ----


def chain_backward_by_layers(
    grad_y: Tensor,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    zs: Sequence[Tensor],
    acts: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
    wants_x: bool,
    weights_wanted: Sequence[int],
    biases_wanted: Sequence[bool],
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """linear_act_chain_backward by act_backward, the library's products and moments."""
    chain = (inputs, weights, zs, acts, alphas, betas, weights_wanted, biases_wanted)
    check_chain_backward(grad_y, *chain)
    new = grad_y.new_empty
    grad_weights, grad_biases = [new(0) for _ in zs], [new(0) for _ in zs]
    rows, grad = [], grad_y
    for i in reversed(range(len(zs))):
        operator = torch.ops.initfast.act_backward
        grad_z, pair = operator(grad, zs[i], acts[i], alphas[i], betas[i])
        needed = (i > 0 or wants_x, weights_wanted[i] > 0, biases_wanted[i])
        grad_x, weight, bias = linear_gradients(grad_z, inputs[i], weights[i], needed)
        rows.append([pair[1], torch.ops.initfast.moments(new(0) if weight is None else weight)])
        if weight is not None and weights_wanted[i] == 2:
            grad_weights[i] = weight
        grad_biases[i] = grad_biases[i] if bias is None else bias
        grad = new(0) if grad_x is None else grad_x
    return grad, grad_weights, grad_biases, torch.stack([torch.stack(p) for p in rows[::-1]])


definitions.impl("linear_act_chain_backward", chain_backward_by_layers, "CUDA")
