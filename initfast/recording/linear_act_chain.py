"""Linear layers and their activations, one after the other, as one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from initfast.nets.activation_calls import Call
from initfast.ops.activations import ACTIVATIONS
from initfast.ops.dispatch import CHAIN_BACKWARD, LINEAR_ACT, kernels_of
from initfast.recording.gradients import Gradients


class ChainLayer(NamedTuple):
    """A linear layer and its activation ("identity": none), one of a chain.

    Attributes:
        weight, bias: its parameters.
        name: the path of its module.
        call: the activation.
        also: the modules whose output the result is too.
        pre_also: the modules whose output the pre-activation is.
    """

    weight: Tensor
    bias: Tensor | None
    name: str
    call: Call
    also: Sequence[str] = ()
    pre_also: Sequence[str] = ()


class Measured(NamedTuple):
    """What one layer has made: its result, the moments, and the mask of its units."""

    y: Tensor
    rows: Tensor
    live: Tensor


def frozen(layers: Sequence[ChainLayer]) -> int:
    """How many layers there are before the first that requires a gradient."""
    for i, layer in enumerate(layers):
        bias = layer.bias
        if layer.weight.requires_grad or (bias is not None and bias.requires_grad):
            return i
    return len(layers)


def run_chain(
    gradients: Gradients,
    x: Tensor,
    kernels: Any,
    layers: Sequence[ChainLayer],
    addresses: Sequence[int],
) -> tuple[Tensor, list[Measured]]:
    """Run linear layers and their activations as one operator whose backward measures.

    Args:
        gradients: is told of the gradients.
        x: the first one's input.
        kernels: the kernels' dispatch key.
        layers: in their order.
        addresses: of each layer's result; its weight's is the next.

    Returns:
        The last result; what each layer has made.
    """
    weights, biases, _, calls, *_ = zip(*layers, strict=True)
    measured: list[Measured] = []
    others = (gradients, kernels, calls, addresses, measured)
    return LinearActChain.apply(*others, x, *weights, *biases), measured


_OTHERS = 5  # arguments that are no operands
_SLOPES_AT_RESULTS = {
    name for name, act in ACTIVATIONS.items() if act.backward_at_result is not None
}


class LinearActChain(torch.autograd.Function):
    """A chain that measures forwards and, layer by layer inside its operator, backwards.

    Its node has `gradients`, what measures the backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gradients: Gradients,
        kernels: Any,
        calls: Sequence[Call],
        addresses: Sequence[int],
        measured: list[Measured],
        x: Tensor,
        *operands: Tensor | None,
    ) -> Tensor:
        """The last layer's result.

        Args:
            ctx: the node.
            gradients: is told of the gradients.
            kernels: the kernels' dispatch key.
            calls: the activations.
            addresses: of each layer's result; its weight's is the next.
            measured: what each layer has made is appended.
            x: the first one's input.
            operands: the weights, then the biases.
        """
        inputs, zs, at_result, count = [], [], [], len(calls)
        layers = zip(operands[:count], operands[count:], calls, strict=True)
        for weight, bias, (act, alpha, beta, _) in layers:
            inputs.append(x)
            keeps_y = act in _SLOPES_AT_RESULTS
            x, z, rows, live = LINEAR_ACT(kernels, x, weight, bias, act, alpha, beta, not keeps_y)
            zs.append(x if keeps_y else z)
            at_result.append(keeps_y)
            measured.append(Measured(x, rows, live))
        ctx.save_for_backward(*inputs, *zs, *operands)
        ctx.gradients, ctx.kernels, ctx.calls, ctx.addresses = gradients, kernels, calls, addresses
        ctx.at_result = at_result
        ctx.has_derivatives = False  # whether a loss may depend on the gradients that it gave
        return x

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weights and biases; of a weight only where somebody can see it."""
        saved, n, gradients = ctx.saved_tensors, len(ctx.calls), ctx.gradients
        inputs, zs, weights = saved[:n], saved[n : 2 * n], saved[2 * n : 3 * n]
        ctx.has_derivatives |= torch.is_grad_enabled()
        if ctx.has_derivatives or kernels_of(grad_y) is not ctx.kernels:
            return (*[None] * _OTHERS, *_by_torch(ctx, grad_y, inputs[0], saved[2 * n :]))
        wants_x, *needed = ctx.needs_input_grad[_OTHERS:]
        wanted = [
            gradients.wanted(weight) if need else 0
            for weight, need in zip(weights, needed, strict=False)
        ]
        acts, alphas, betas, _ = zip(*ctx.calls, strict=True)
        layers = (inputs, weights, zs, acts, alphas, betas, ctx.at_result)
        found = CHAIN_BACKWARD(ctx.kernels, grad_y, *layers, wants_x, wanted, needed[n:])
        grad_x, grad_weights, grad_biases, rows = found
        gradients.keep_chain(ctx.addresses, rows, wanted)
        return (
            *[None] * _OTHERS,
            grad_x if wants_x else None,
            *[grad if what == 2 else None for grad, what in zip(grad_weights, wanted, strict=True)],
            *[grad if need else None for grad, need in zip(grad_biases, needed[n:], strict=True)],
        )


def _by_torch(
    ctx: Any, grad_y: Tensor, x: Tensor, operands: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The same gradients as torch's own operators give them: they have derivatives in turn.

    That is why the layers' way back is not taken here from initfast's operators, which have none.
    Gradients are taken at aliases: at the operands themselves they would include what flows outside
    this node, where a weight occurs twice or x depends on it. A loss of these gradients depends on
    the results within the node as they are computed here: what it brings to them is a part of their
    gradient.
    """
    needed = ctx.needs_input_grad[_OTHERS:]
    count, gradients = len(ctx.calls), ctx.gradients
    create_graph = torch.is_grad_enabled()
    seen: dict[int, Tensor] = {}
    with torch.enable_grad(), torch._C.DisableTorchFunction():
        everything: list[Any] = [
            _alias(t) if need else t for t, need in zip((x, *operands), needed, strict=True)
        ]
        y, *own = everything
        layers = zip(own[:count], own[count:], ctx.calls, ctx.addresses, strict=True)
        for weight, bias, (act, alpha, beta, _), address in layers:
            y = ACTIVATIONS[act].value(F.linear(y, weight, bias), alpha, beta)
            see = gradients.add if create_graph else seen.__setitem__
            y.register_hook(partial(see, address))
        ends = [t for t, need in zip(everything, needed, strict=True) if need]
        found = iter(torch.autograd.grad(y, ends, grad_y, create_graph=create_graph))
    for address, seen_there in seen.items():
        gradients.add(address, seen_there)
    result = [next(found) if need else None for need in needed]
    weights: Any = zip(operands[:count], result[1:], ctx.addresses, strict=False)
    for weight, grad, address in weights:
        if grad is not None and gradients.wanted(weight) == 1:  # no hook of its own measures it
            gradients.measure(address + 1, grad)
    return result


def _alias(t: Any) -> Tensor:
    """A view of its own, at the end of the graph that t is in; of a t frozen since, one without."""
    return t.view_as(t) if t.requires_grad else t.detach().requires_grad_()
