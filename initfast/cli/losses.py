"""--loss: what a command goes back from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from initfast.cli.failure import Failure, user_code
from initfast.cli.targets import resolve
from initfast.nets.pytree import tensors

HELP = (
    "mse, against normal numbers; cross_entropy, against classes drawn evenly, over the second "
    "dimension of the output (the last of three); or file.py:fn, a function of the output"
)


def loss_of(text: str | None, backward: str | None, seed: int) -> Callable[[Any], Tensor] | None:
    """A function that makes a scalar of the net's output; None without `--loss`.

    Its draws are its own, so that it gives the same however often it is called.

    Args:
        text: `--loss`.
        backward: `--backward`, which goes back without a loss.
        seed: of the draws.

    Raises:
        Failure: both are given, or the function cannot be had.
    """
    if text is not None and backward is not None:
        raise Failure("--loss and --backward are both given; expected one of them")
    kinds = {"mse": _mse, "cross_entropy": _cross_entropy}
    if text is None:
        return None
    if text in kinds:
        function = kinds[text]
        return lambda output: function(_first(output), torch.Generator().manual_seed(seed))
    if ":" not in text:
        raise Failure(f"--loss is {text!r}; expected mse, cross_entropy or file.py:fn")
    found = resolve(text, "--loss")
    if not callable(found):
        raise Failure(f"--loss {text} is a {type(found).__name__}; expected a function")
    with user_code(text):
        return found() if isinstance(found, type) and issubclass(found, nn.Module) else found


def _first(output: Any) -> Tensor:
    """The first tensor of real numbers in the output."""
    for _, tensor in tensors(output):
        if tensor.is_floating_point():
            return tensor
    raise Failure("the net's output holds no tensor of real numbers to take a loss of")


def _mse(output: Tensor, generator: torch.Generator) -> Tensor:
    return nn.functional.mse_loss(output, _normal_like(output, generator))


def _cross_entropy(output: Tensor, generator: torch.Generator) -> Tensor:
    """Language models give batch x tokens x classes, what torch calls classes stands second."""
    scores = output.movedim(-1, 1) if output.dim() == 3 else output
    if scores.dim() < 2:
        raise Failure(
            f"cross_entropy wants an output of two dimensions or more; it is {tuple(output.shape)}"
        )
    shape = (scores.shape[0], *scores.shape[2:])
    targets = torch.randint(scores.shape[1], shape, generator=generator)
    return nn.functional.cross_entropy(scores.float(), targets.to(scores.device))


def _normal_like(output: Tensor, generator: torch.Generator) -> Tensor:
    count = math.prod(output.shape)
    normal = torch.randn(count, generator=generator).reshape(output.shape)
    return normal.to(output.device, output.dtype)
