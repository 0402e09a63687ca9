"""A backward without a loss: from random numbers in the place of the gradient at the output."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from initfast.init.placement import is_distributed
from initfast.nets.pytree import tensors

NOTE = (
    'Gradients are those of a random cotangent of the output (backward="random"), N(0, 1) at each '
    "element, and of no loss."
)


def random_projection(output: Any) -> Tensor:
    """The sum of an output's elements, each times a number of N(0, 1) of its own.

    The gradient of the sum at the output is these numbers, the cotangent, so that what a backward
    brings to a layer is the cotangent times the partial Jacobian of the output by that layer's own.

    Args:
        output: tensors, in any structure; of those that are real and have a graph each takes part.

    Returns:
        A scalar, in float32 or wider: in 16 bits the sum could overflow. The numbers come from a
        generator of its own with torch's initial seed, so that torch.manual_seed governs them, and
        a second run has the same.

    Raises:
        ValueError: there is no such tensor.

    Source:
        Baydin et al. 2018, "Automatic differentiation in machine learning: a survey", sec. 3.2:
        reverse mode takes a vector times the Jacobian.
    """
    draws = torch.Generator().manual_seed(torch.initial_seed())
    parts = [
        _dot(_plain(t), draws)
        for _, t in tensors(output)
        if t.dtype.is_floating_point and t.requires_grad
    ]
    if not parts:
        raise ValueError(
            'profile: backward="random" finds no graph: the output is '
            f"{_what_it_is(output)}; expected a tensor of real numbers that depends on a parameter "
            "or an input that requires a gradient, through neither detach() nor no_grad()"
        )
    total = parts[0]
    for part in parts[1:]:
        total = total + part.to(total.device)
    return total


def _dot(t: Tensor, draws: torch.Generator) -> Tensor:
    normal = torch.randn(math.prod(t.shape), generator=draws).reshape(t.shape)
    wide = torch.promote_types(t.dtype, torch.float32)
    # Rounded first to what the backward hands to t in the end.
    return (t.to(wide) * normal.to(t.device, t.dtype).to(wide)).sum()


def _plain(t: Tensor) -> Tensor:
    """What this process has of a tensor that several processes hold together."""
    return t.to_local() if is_distributed(t) else t  # type: ignore[attr-defined]


def _what_it_is(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {output.dtype}" + " without a graph" * (not output.requires_grad)
    return f"a {type(output).__name__} without such a tensor"
