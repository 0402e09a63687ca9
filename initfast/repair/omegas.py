"""Admin's factors of the skip connections, from the scales of the residual branches."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import nn

from initfast.repair.slots import slots

_BLOCK = re.compile(r"(?:^|\.)\d+\.")
"""The number of a block, or of the stage that it is in: what stands before names the stack."""


def omegas(net: nn.Module, stds: Mapping[str, float]) -> dict[str, float]:
    """For each layer that ends a residual branch, the root of 1 + Σ Var(f) over those before it.

    The sum is taken within a stack of blocks, an encoder or a decoder; the 1 stands for what enters
    that, which has been normalised.

    Args:
        net: a transformer; of another net there are none.
        stds: of the layers' outputs, by their names, in the order of the forward.

    Source:
        Liu et al. 2020, "Understanding the difficulty of training transformers", section 4.2.

    Example:
        >>> net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 1)
        >>> omegas(net, {"layers.0.self_attn": 1.0, "layers.0.linear2": 2.0})
        {'layers.0.self_attn': 1.0, 'layers.0.linear2': 1.4142135623730951}
    """
    stacks: dict[str, str] = {}
    for name, slot in slots(net).items():
        role = slot.role
        if role.ends_branch and role.part == "weight" and role.attention:
            layer = name.rpartition(".")[0]
            if layer not in stds:  # attention stands for its output projection
                layer = layer.rpartition(".")[0]
            stacks[layer] = _BLOCK.split(name)[0]
    found: dict[str, float] = {}
    sums: dict[str, float] = {}
    for layer, std in stds.items():
        if layer in stacks:
            before = sums.setdefault(stacks[layer], 1.0)
            found[layer] = math.sqrt(before)
            sums[stacks[layer]] = before + std**2
    return found
