"""What is known of torch's modules: which dimension counts their units, and their weight's fans."""

from __future__ import annotations

import torch
from torch import nn

from initfast.scaling import fan_in_and_fan_out

_CONVOLUTIONS = nn.modules.conv._ConvNd
_TRANSPOSED = nn.modules.conv._ConvTransposeNd
_BATCH_NORMS = nn.modules.batchnorm._BatchNorm
_INSTANCE_NORMS = nn.modules.instancenorm._InstanceNorm

LEAVES = {
    kind: kind.forward
    for name in (
        *("Conv{}d", "ConvTranspose{}d", "BatchNorm{}d", "InstanceNorm{}d"),
        *("MaxPool{}d", "AvgPool{}d", "AdaptiveMaxPool{}d", "AdaptiveAvgPool{}d"),
    )
    for kind in (getattr(nn, name.format(dimensions)) for dimensions in (1, 2, 3))
} | {kind: kind.forward for kind in (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.Embedding)}
"""Modules whose forward is but one function, neither an activation nor a linear layer."""


def unit_dim(module: nn.Module) -> int | None:
    """Which dimension of its output counts the units; None but for convolutions and norms."""
    if isinstance(module, _CONVOLUTIONS):
        return -1 - len(module.kernel_size)
    if isinstance(module, _INSTANCE_NORMS):
        return -int(module._get_no_batch_dim())
    if isinstance(module, (_BATCH_NORMS, nn.GroupNorm)):
        return 1
    if type(module) in (nn.LayerNorm, nn.RMSNorm):
        return -1
    return None


def fans(
    module: nn.Module, input_shape: torch.Size | None, shape: torch.Size
) -> tuple[int, int] | None:
    """The fan_in and fan_out of its weight; None without a weight that has them."""
    weight = module._parameters.get("weight")
    if weight is None or weight.dim() < 2 or input_shape is None or not input_shape or not shape:
        return None
    if isinstance(module, _CONVOLUTIONS):
        return fan_in_and_fan_out(weight, module.groups, isinstance(module, _TRANSPOSED))
    if isinstance(module, nn.Embedding):
        return 1, weight.shape[1]  # an output is one row, and so depends on one number of it
    found = input_shape[-1], shape[-1]
    return found if tuple(weight.shape) in (found, found[::-1]) else None
