"""More nets whose faults are known by how they were made: norms, residual sums, convolutions."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from nets.labelled import WIDTH, Case, add, normal, torch_default
from torch import nn

WITH_BLOCKS: list[Case] = []
case = partial(add, WITH_BLOCKS)


def normed(norm, linear=torch_default, depth=20, act=nn.ReLU):
    def build():
        net = nn.Sequential(
            *[m for _ in range(depth) for m in (nn.Linear(WIDTH, WIDTH), norm(WIDTH), act())]
        )
        for layer in net[::3]:
            linear(layer.weight)
        return net

    return build


class Residual(nn.Module):
    """Blocks x + scale * W2 relu(W1 norm(x))."""

    def __init__(self, depth, norm=nn.Identity, fill=None, scale=1.0, zero_last=False):
        fill = fill or normal(2.0)
        super().__init__()
        self.norms = nn.ModuleList(norm(WIDTH) for _ in range(depth))
        self.first = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.scale = scale
        for w1, w2 in zip(self.first, self.second, strict=True):
            fill(w1.weight)
            nn.init.zeros_(w2.weight) if zero_last else fill(w2.weight)
            nn.init.zeros_(w2.bias)

    def forward(self, x):
        for norm, first, second in zip(self.norms, self.first, self.second, strict=True):
            x = x + self.scale * second(F.relu(first(norm(x))))
        return x


class PostNorm(Residual):
    def forward(self, x):
        for norm, first, second in zip(self.norms, self.first, self.second, strict=True):
            x = norm(x + second(F.relu(first(x))))
        return x


case("batch norm 20, torch's default", normed(nn.BatchNorm1d))
case("layer norm 20, torch's default", normed(nn.LayerNorm))
case("layer norm 20 tanh", normed(nn.LayerNorm, act=nn.Tanh))
case("batch norm 20, N(0, 1)", normed(nn.BatchNorm1d, nn.init.normal_))
case("residual 24, pre-norm", lambda: Residual(24, nn.LayerNorm))
case("residual 24, pre-norm, torch's default", lambda: Residual(24, nn.LayerNorm, torch_default))
case("residual 24, post-norm", lambda: PostNorm(24, nn.LayerNorm))
case("residual 24, no norm", lambda: Residual(24), "explosion")
case("residual 24, no norm, scaled by 1/√24", lambda: Residual(24, scale=24**-0.5))
case("residual 24, no norm, last at zero", lambda: Residual(24, zero_last=True))
case(
    "residual 24, batch norm in evaluation mode",
    lambda: Residual(24, nn.BatchNorm1d),
    training=False,
)
case("residual 24, batch norm in training mode", lambda: Residual(24, nn.BatchNorm1d))


def images():
    return torch.randn(4, 3, 32, 32)


def deep_convs(fill):
    def build():
        convs = [nn.Conv2d(3 if i == 0 else 32, 32, 3, padding=1) for i in range(16)]
        for conv in convs:
            fill(conv.weight)
        return nn.Sequential(*[m for conv in convs for m in (conv, nn.ReLU())])

    return build


case(
    "16 convolutions, He",
    deep_convs(lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
    x=images,
)
case("16 convolutions, N(0, 1)", deep_convs(nn.init.normal_), "explosion weight_scale", x=images)
case(
    "16 convolutions, N(0, 1e-4)",
    deep_convs(lambda w: nn.init.normal_(w, 0, 0.01)),
    "vanishing",
    x=images,
)
case("16 convolutions, torch's default", deep_convs(torch_default), "vanishing", x=images)
