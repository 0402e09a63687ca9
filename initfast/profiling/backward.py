"""The loss of a profile, and the one backward from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from initfast.errors import add_note
from initfast.profiling.arguments import NO_TARGETS
from initfast.recording.autograd_graph import leaf_tensors
from initfast.recording.gradients import Gradients, scale_of
from initfast.undo_log import UndoLog


def loss_of(loss: Callable[..., Any], output: Any, targets: Any = NO_TARGETS) -> Tensor:
    """The scalar that loss makes of a net's output, and of targets if there are any.

    Raises:
        TypeError: it is no real floating-point tensor.
        ValueError: it is not one number, or no gradient flows from it.
        Exception: whatever loss raises, with a note.
    """
    try:
        value = loss(output) if targets is NO_TARGETS else loss(output, targets)
    except Exception as error:
        add_note(error, "initfast.profile: raised in loss")
        raise
    if not isinstance(value, Tensor):
        raise TypeError(
            f"profile: loss returned a {type(value).__name__}; expected a tensor of one number"
        )
    if not value.dtype.is_floating_point:
        raise TypeError(
            f"profile: loss returned a tensor of {value.dtype}; expected a real floating-point one"
        )
    if value.numel() != 1:
        raise ValueError(
            f"profile: loss returned a tensor of shape {list(value.shape)}; expected a scalar, "
            "such as its mean"
        )
    if not value.requires_grad:
        raise ValueError(
            "profile: loss returned a tensor without a graph; expected one that depends on a "
            "parameter or an input that requires a gradient, through neither detach() nor no_grad()"
        )
    return value


def run_backward(
    loss: Tensor,
    known: Iterable[Tensor],
    gradients: Gradients,
    scaler: Any,
    log: UndoLog,
    parameters: Iterable[Tensor] = (),
) -> None:
    """Run the backward of a loss for the sake of its hooks: no gradient is kept anywhere.

    A backward may run others within it, as that of a reversible block does, which add to `.grad`:
    what they have added is measured and taken away.

    Args:
        loss: a scalar.
        known: the tensors where the graph of the net ends, such as its parameters and inputs; of
            none that requires a gradient, the leaf tensors of the whole graph.
        gradients: what measures.
        scaler: a GradScaler or None.
        log: gets what puts `.grad` back.
        parameters: what else may get a gradient.

    Raises:
        Exception: whatever the backward raises, with a note.
    """
    ends = [t for t in dict.fromkeys(known) if t.requires_grad] or leaf_tensors(loss)
    kept = [(t, t.grad) for t in dict.fromkeys((*ends, *parameters)) if t.is_leaf]
    if scaler is not None:
        gradients.scale = scale_of(scaler, loss.device)
        loss = loss * gradients.scale
    gradients.arm(loss)
    log.add(_put_back, kept)
    try:
        for t, grad in kept:
            if grad is not None:
                t.grad = None
        torch.autograd.grad(loss, ends, allow_unused=True)
        gradients.added()
    except BaseException as error:
        gradients.root = None  # the graph's hooks keep what measures, and this would keep the graph
        if isinstance(error, Exception):
            add_note(error, "initfast.profile: raised in the backward from the loss")
        raise
    finally:
        gradients.armed = False


def _put_back(kept: Iterable[tuple[Tensor, Tensor | None]]) -> None:
    """Give each tensor the gradient that it had."""
    for t, grad in kept:
        if t.grad is not grad:
            t.grad = grad
