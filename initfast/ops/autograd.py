"""The operators' gradients: through y, and of `moments`; the others carry none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from initfast.ops.reference import linear_gradients
from initfast.ops.schemas import definitions


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
    """Of the central moments by calculus; of an extreme, shared by the elements that attain it."""
    x, row = ctx.saved_tensors
    count, nonfinite, _, _, mean, m2, low, high, _, m3, _, least = row.unbind()
    _, _, _, _, *into, to_low, to_high, _, to_m3, to_m4, to_least = grad.unbind()
    n, wide = count - nonfinite, x.double()
    d = wide - mean
    slope = into[0] / n + into[1] * 2 * d
    slope = slope + to_m3 * 3 * (d**2 - m2 / n) + to_m4 * 4 * (d**3 - m3 / n)
    for gradient, attained in ((to_low, wide == low), (to_high, wide == high)):
        slope = slope + attained * (gradient / attained.sum())
    nearest = wide.abs() == least
    slope = slope + torch.where(nearest, wide.sign() * (to_least / nearest.sum()), 0.0)
    return torch.where(torch.isfinite(x), slope, 0.0).to(x.dtype)


def _keep_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(*output)


def _no_unit_gradient(ctx: Any, *_: Any) -> None:
    raise NotImplementedError("initfast::unit_moments has no gradient: use torch's mean and var")


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
torch.library.register_autograd(
    "initfast::unit_moments", _no_unit_gradient, setup_context=_keep_nothing, lib=definitions
)
torch.library.register_autograd("initfast::act_backward", _no_double_backward, lib=definitions)
torch.library.register_autograd("initfast::linear_act_chain", _no_chain_gradient, lib=definitions)
torch.library.register_autograd(
    "initfast::linear_act_chain_backward", _no_double_chain_backward, lib=definitions
)
