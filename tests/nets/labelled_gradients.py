"""Nets whose gradients are known to hold, explode or vanish, to be profiled with a loss."""

from __future__ import annotations

from functools import partial

import torch
from nets.labelled import (
    MADE,
    Case,
    add,
    he,
    mlp,
    normal,
    torch_default,
)
from nets.labelled_residuals import WITH_BLOCKS, PostNorm, Residual, normed
from nets.well_known import WELL_KNOWN
from torch import nn

GRADIENT_RULES = frozenset(("gradient_explosion", "gradient_vanishing"))

# ---- good: the labelled nets without a fault ----

# Gradients do vanish along 30 steps of a tanh recurrence whose last step alone has a loss.
BORDERLINE = {"a recurrence of 30 steps": frozenset({"gradient_vanishing"})}

GRADED: list[Case] = [
    Case(
        c.name, c.build, may=c.may | BORDERLINE.get(c.name, frozenset()), x=c.x, training=c.training
    )
    for c in MADE + WITH_BLOCKS + WELL_KNOWN
    if not c.faults
]
case = partial(add, GRADED)

case("relu 20, Kaiming", he(20))
case("residual 12, pre-norm", lambda: Residual(12, nn.LayerNorm))
case("batch norm 15, Kaiming", normed(nn.BatchNorm1d, nn.init.kaiming_normal_, 15))
# Norms of each sample leave them on their way to one direction.
case("layer norm 40", normed(nn.LayerNorm, depth=40), may="one_direction")
case("post-norm 12", lambda: PostNorm(12, nn.LayerNorm))
# √(χ) is about 1.2 a layer: 20 layers stay below the line that 40 cross.
case("tanh 20, N(0, 4/n)", mlp(nn.Tanh, normal(4.0), 20), may="saturation")

# ---- bad ----

case(
    "tanh 40, N(0, 4/n)",
    mlp(nn.Tanh, normal(4.0), 40),
    "gradient_explosion",
    "saturation",
)
case(
    "tanh 10, N(0, 1)",
    mlp(nn.Tanh, nn.init.normal_, 10),
    "gradient_explosion",
    "saturation weight_scale",
)
case("linear 20, N(0, 4/n)", mlp(nn.Identity, normal(4.0), 20), "gradient_explosion explosion")
case("relu 20, N(0, 8/n)", mlp(nn.ReLU, normal(8.0), 20), "gradient_explosion explosion")
case("residual 24, no norm", lambda: Residual(24), "gradient_explosion explosion")
case("batch norm 50", normed(nn.BatchNorm1d, depth=50), "gradient_explosion")
case(
    "relu 25, N(0, 1)",
    mlp(nn.ReLU, nn.init.normal_, 25),
    "gradient_explosion explosion weight_scale",
    "non_finite dtype_range",
)
case(
    "sigmoid 20, torch's default",
    mlp(nn.Sigmoid, torch_default, 20, bias=None),
    "gradient_vanishing vanishing",
    "collapse mean_drift",
)
case(
    "sigmoid 20, Xavier",
    mlp(nn.Sigmoid, nn.init.xavier_normal_, 20),
    "gradient_vanishing vanishing",
    "collapse mean_drift",
)
case("relu 40, default", mlp(nn.ReLU, torch_default, 40, bias=None), "gradient_vanishing vanishing")
case("tanh 40, default", mlp(nn.Tanh, torch_default, 40, bias=None), "gradient_vanishing vanishing")
case("gelu 40, default", mlp(nn.GELU, torch_default, 40, bias=None), "gradient_vanishing vanishing")
case(
    "relu 25, N(0, 1e-4)",
    mlp(nn.ReLU, lambda w: nn.init.normal_(w, 0, 0.01), 25),
    "gradient_vanishing vanishing",
)
case("linear 30, N(0, 1/4n)", mlp(nn.Identity, normal(0.25), 30), "gradient_vanishing vanishing")


def distance(output: torch.Tensor) -> torch.Tensor:
    """The mean squared distance from random targets."""
    return (output - torch.randn_like(output)).square().mean()
