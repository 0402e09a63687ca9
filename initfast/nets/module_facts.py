"""What is known of torch's modules: which dimension counts their units, and their weight's fans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from initfast.init.fans import fan_in_and_fan_out
from initfast.init.placement import is_distributed
from initfast.nets.activation_calls import MODULES, activation_call

_CONVOLUTIONS = nn.modules.conv._ConvNd
_TRANSPOSED = nn.modules.conv._ConvTransposeNd
_BATCH_NORMS = nn.modules.batchnorm._BatchNorm
_INSTANCE_NORMS = nn.modules.instancenorm._InstanceNorm
_NORMS = (nn.LayerNorm, nn.RMSNorm)
_WITH_UNITS = (_CONVOLUTIONS, _BATCH_NORMS, _INSTANCE_NORMS, nn.GroupNorm, *_NORMS)
_MANY = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)

OF_ONE_FUNCTION = {
    kind: kind.forward
    for name in (
        *("Conv{}d", "ConvTranspose{}d", "BatchNorm{}d", "InstanceNorm{}d"),
        *("MaxPool{}d", "AvgPool{}d", "AdaptiveMaxPool{}d", "AdaptiveAvgPool{}d"),
    )
    for kind in (getattr(nn, name.format(dimensions)) for dimensions in (1, 2, 3))
} | {kind: kind.forward for kind in (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.Embedding)}
"""Modules whose forward is but one function, neither an activation nor a linear layer."""

SEEN_INSIDE = {nn.Linear, nn.ModuleList, nn.ModuleDict, *MODULES}
"""Modules whose outputs need no look: what they compute is seen as it runs."""


def is_seen(module: nn.Module) -> bool:
    """Whether it is one of SEEN_INSIDE and, if an activation, one that the operators know."""
    kind = type(module)
    return kind in SEEN_INSIDE and (kind not in MODULES or activation_call(module) is not None)


def unit_dim(module: nn.Module, shape: Sequence[int]) -> int | None:
    """Which dimension of an output of this shape counts the units.

    None but for convolutions and norms; -1 where a subclass or a hook has made it otherwise.
    """
    dim = _unit_dim(module)
    if dim is None or dim == -1:
        return dim
    if not -len(shape) <= dim < len(shape):
        return -1
    if type(module) in OF_ONE_FUNCTION:
        return dim
    names = ("out_channels", "num_features", "num_channels")
    return dim if shape[dim] in [getattr(module, name, None) for name in names] else -1


def _unit_dim(module: nn.Module) -> int | None:
    if type(module) in _NORMS:
        return -1
    if not isinstance(module, _WITH_UNITS):
        return None
    if isinstance(module, _CONVOLUTIONS):
        size = module.kernel_size  # a subclass may keep another
        return -1 - len(size) if isinstance(size, tuple) else None
    if isinstance(module, _INSTANCE_NORMS):
        return -int(module._get_no_batch_dim())
    return 1 if isinstance(module, (_BATCH_NORMS, nn.GroupNorm)) else None


Fans = tuple[int, int]


def weights(
    module: nn.Module,
    input_shape: torch.Size | None,
    shape: torch.Size,
    made: Mapping[int, Tensor],
) -> dict[str, tuple[Tensor, Fans]]:
    """The weights of a module that have a fan_in and a fan_out, by their names.

    Args:
        module: any.
        input_shape: of what it was given.
        shape: of its output.
        made: by the id of each module that computes a weight (``parametrizations.weight``), what
            it made last.
    """
    if type(module) in _NORMS:
        return {}
    if isinstance(module, _MANY):
        found: dict[str, Tensor] = {
            n: p for n, p in module._parameters.items() if p is not None and "bias" not in n
        }
        if isinstance(module, nn.MultiheadAttention):
            projection = getattr(module.out_proj, "weight", None)
            found |= {"out_proj.weight": projection} if isinstance(projection, Tensor) else {}
        return {n: (p, fan_in_and_fan_out(p)) for n, p in found.items() if p.dim() == 2}
    weight = _weight(module, made)
    if weight is None:
        return {}
    fans = _fans(module, weight, input_shape, shape)
    return {} if fans is None else {"weight": (weight, fans)}


def _weight(module: nn.Module, made: Mapping[int, Tensor]) -> Tensor | None:
    """What a module uses as its weight: its own, or what a parametrization or a hook computes."""
    if "weight" in module._parameters:
        return module._parameters["weight"]
    parametrizations = module._modules.get("parametrizations")
    if isinstance(parametrizations, nn.ModuleDict) and "weight" in parametrizations:
        return made.get(id(parametrizations["weight"]))
    weight = module.__dict__.get("weight")
    return weight if isinstance(weight, Tensor) else None


def _fans(
    module: nn.Module, weight: Tensor, input_shape: torch.Size | None, shape: torch.Size
) -> Fans | None:
    if weight.dim() < 2:
        return None
    if isinstance(module, _CONVOLUTIONS):
        if not type(module).forward.__module__.startswith("torch."):
            return None  # what reaches the product may be computed from the weight
        transposed = isinstance(module, _TRANSPOSED)
        fan_in, fan_out = fan_in_and_fan_out(weight, module.groups, transposed)
        if transposed and isinstance(module.stride, tuple):
            # Between an input's neighbours a stride puts nothing: each output sums fewer products.
            fan_in = max(fan_in // math.prod(module.stride), 1)
        return fan_in, fan_out
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return 1, weight.shape[1]  # an output is one row, or a few, and each of them one number
    if isinstance(module, nn.Linear) and is_distributed(weight):  # whose output may be a part
        return fan_in_and_fan_out(weight)
    if not input_shape or not shape:
        return None
    found = input_shape[-1], shape[-1]
    return found if tuple(weight.shape) in (found, found[::-1]) else None
