"""A net's parameters before a change: kept to be put back, and compared with those after it."""

from __future__ import annotations

import torch
from torch import nn

from initfast.repair.filling import copy_back
from initfast.undo_log import UndoLog


def keep_parameters(net: nn.Module, log: UndoLog) -> dict[str, torch.Tensor]:
    """Have the log put every parameter back; and what they are."""
    kept = {name: p.detach().clone() for name, p in net.named_parameters()}
    for name, p in net.named_parameters():
        log.add(copy_back, p, kept[name])
    return kept


def clear_biases(net: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """Make biases 0 that were drawn with weights which are others now.

    Weights and biases hold a signal together: the weights that a finding advises are critical
    beside biases of 0. Those of torch's default, which every input shares, make the inputs alike
    from layer to layer, and gradients vanish (Schoenholz et al. 2017, fig. 1). A bias whose
    elements are equal was set, not drawn, and stays.
    """
    parameters = dict(net.named_parameters())
    for name, bias in parameters.items():
        weight = f"{name.removesuffix('bias')}weight"
        if not name.endswith("bias") or weight not in kept:
            continue
        is_drawn = bool((kept[name] != kept[name].flatten()[:1]).any())
        if (
            is_drawn
            and torch.equal(bias, kept[name])
            and not torch.equal(parameters[weight], kept[weight])
        ):
            with torch.no_grad():
                bias.zero_()


def put_frozen_back(net: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """Undo what was done to parameters that do not learn."""
    for name, p in net.named_parameters():
        if not p.requires_grad:
            copy_back(p, kept[name])
