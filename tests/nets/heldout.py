"""Nets that no threshold was chosen on: other widths, depths, activations, shapes and seeds.

Labels follow from how a net is made: by the gain of its variance at each layer, and the depth.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from nets.labelled import Case, add, changed, mlp, normal, torch_default
from torch import nn

HELD_OUT: list[Case] = []
case = partial(add, HELD_OUT)


def data(width, batch=48):
    return lambda: torch.randn(batch, width)


# The variance of weights, times fan_in, that keeps a standard normal's scale: 1 / E[act(z)^2].
ACTS = {
    "silu": (nn.SiLU, 2.81),
    "mish": (nn.Mish, 2.21),
    "celu": (lambda: nn.CELU(0.7), 1.71),
    "hardswish": (nn.Hardswish, 3.33),
    "leaky_relu 0.05": (lambda: nn.LeakyReLU(0.05), 2 / 1.0025),
    "prelu": (nn.PReLU, 2 / 1.0625),
    "gelu, tanh's": (lambda: nn.GELU("tanh"), 2.35),
    "softsign": (nn.Softsign, 1.0),
    "relu": (nn.ReLU, 2.0),
    "tanh": (nn.Tanh, 1.0),
}
for act, (module, variance) in ACTS.items():
    for depth, width in ((5, 72), (9, 200)):
        net = mlp(module, normal(variance), depth, width, n_in=40)
        case(f"{act} {depth}x{width}, right", net, x=data(40))
    made = mlp(module, normal(variance / 4), 22, 96, n_in=96)
    case(f"{act} 22x96, a quarter of the variance", made, "vanishing", x=data(96))
    if act not in ("tanh", "softsign"):
        made = mlp(module, normal(4 * variance), 17, 96, n_in=96)
        case(f"{act} 17x96, four times the variance", made, "explosion", x=data(96))
    case(
        f"{act} 2x60, torch's default", mlp(module, torch_default, 2, 60, None, n_in=60), x=data(60)
    )

case("tanh 24x80, Xavier", mlp(nn.Tanh, nn.init.xavier_uniform_, 24, 80, n_in=80), x=data(80))
case("relu 45x300, Kaiming", mlp(nn.ReLU, normal(2.0), 45, 300, n_in=300), x=data(300))
case(
    "relu 18x300, Xavier",
    mlp(nn.ReLU, nn.init.xavier_uniform_, 18, 300, n_in=300),
    "vanishing",
    x=data(300),
)
case(
    "sigmoid 9x90, LeCun",
    mlp(nn.Sigmoid, normal(1.0), 9, 90, n_in=90),
    "vanishing",
    "mean_drift collapse",
    x=data(90),
)
case(
    "tanh 6x150, N(0, 1)",
    mlp(nn.Tanh, nn.init.normal_, 6, 150, n_in=150),
    "saturation weight_scale",
    "gradient_explosion",
    x=data(150),
)
case(
    "tanh 3x150, inputs of std 30",
    mlp(nn.Tanh, normal(1.0), 3, 150, n_in=150),
    "saturation",
    "input_scale",
    x=lambda: 30 * torch.randn(48, 150),
)


def kill(share):
    def change(net):
        net[2].bias[: int(share * net[2].out_features)] = -50.0

    return change


for share, faults in ((0.2, ""), (0.7, "dead_units"), (0.97, "dead_units")):
    net = changed(mlp(nn.ReLU, normal(2.0), 4, 200, n_in=50), kill(share))
    case(f"relu 4x200, {share:.0%} dead", net, faults, "mean_drift vanishing", x=data(50))
for value in (0.02, -0.3):
    case(
        f"relu 3x90, constant {value}",
        mlp(nn.ReLU, lambda w, v=value: nn.init.constant_(w, v), 3, 90, n_in=90),
        "symmetric_units",
        "collapse mean_drift explosion vanishing dead_units",
        x=data(90),
    )
case(
    "relu 3x90, an infinity in a bias",
    changed(
        mlp(nn.ReLU, normal(2.0), 3, 90, n_in=90), lambda net: net[2].bias[0].fill_(float("inf"))
    ),
    "non_finite",
    x=data(90),
)


# ---- norms, residuals, convolutions, recurrences, attention ----


def blocks(norm, act, depth, width, fill=torch_default):
    def build():
        net = nn.Sequential(
            *[m for _ in range(depth) for m in (nn.Linear(width, width), norm(width), act())]
        )
        for layer in net[::3]:
            fill(layer.weight)
        return net

    return build


case("batch norm 13x70, silu", blocks(nn.BatchNorm1d, nn.SiLU, 13, 70), x=data(70))
case("rms norm 16x70, gelu", blocks(nn.RMSNorm, nn.GELU, 16, 70), x=data(70))
case("layer norm 25x70, N(0, 1)", blocks(nn.LayerNorm, nn.ELU, 25, 70, nn.init.normal_), x=data(70))


class Branches(nn.Module):
    def __init__(self, depth, width, norm, scale):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                norm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
            )
            for _ in range(depth)
        )
        for branch in self.branches:
            normal(scale)(branch[1].weight)
            normal(scale)(branch[3].weight)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        for branch in self.branches:
            x = x + branch(x)
        return self.head(x)


case("residual 10x64, pre-norm", lambda: Branches(10, 64, nn.LayerNorm, 1.0), x=data(64))
case("residual 33x64, pre-norm", lambda: Branches(33, 64, nn.RMSNorm, 1.0), x=data(64))
case("residual 33x64, no norm", lambda: Branches(33, 64, nn.Identity, 3.0), "explosion", x=data(64))


def images(size=24, channels=3):
    return lambda: torch.randn(6, channels, size, size)


def convs(fill, depth, width, act=nn.ReLU, norm=None):
    def build():
        layers = []
        for i in range(depth):
            conv = nn.Conv2d(3 if i == 0 else width, width, 3, padding=1, bias=norm is None)
            fill(conv.weight)
            layers += [conv, *([norm(width)] if norm else []), act()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

    return build


def he(w):
    nn.init.kaiming_uniform_(w, nonlinearity="relu")


case("10 convolutions of 20, He", convs(he, 10, 20), x=images())
case(
    "10 convolutions of 20, batch norm",
    convs(torch_default, 10, 20, norm=nn.BatchNorm2d),
    x=images(),
)
case(
    "20 convolutions of 20, torch's default", convs(torch_default, 20, 20), "vanishing", x=images()
)
case(
    "12 convolutions of 24, N(0, 0.25)",
    convs(lambda w: nn.init.normal_(w, 0, 0.5), 12, 24),
    "explosion weight_scale",
    x=images(),
)


class Recurrent(nn.Module):
    def __init__(self, kind, width):
        super().__init__()
        self.embed = nn.Embedding(50, width)
        self.rnn = kind(width, width, 2, batch_first=True)
        self.head = nn.Linear(width, 50)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0])


def tokens():
    return torch.randint(50, (6, 20))


for kind in (nn.LSTM, nn.GRU):
    case(f"{kind.__name__}, two layers of 56", lambda kind=kind: Recurrent(kind, 56), x=tokens)


def encoder(norm_first):
    layer = nn.TransformerEncoderLayer(
        48, 4, 96, 0.1, F.gelu, batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 7, enable_nested_tensor=False)


for first in (True, False):
    case(
        f"encoder of 7, norm_first={first}",
        partial(encoder, first),
        x=lambda: torch.randn(4, 15, 48),
    )
