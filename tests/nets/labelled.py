"""Nets whose faults are known by how they were made: what the precision of findings is measured on.

A case says which rules must speak, at a severity of warning or error, and which may besides,
because that fault is there too to a degree on which experts would differ; all others must not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

BATCH, WIDTH = 64, 128


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], nn.Module]
    faults: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    x: Callable[[], object] = field(default=lambda: torch.randn(BATCH, WIDTH))
    training: bool = True


def add(cases, name, build, faults="", may="", **more):
    cases.append(Case(name, build, frozenset(faults.split()), frozenset(may.split()), **more))


def rules_of(report, least=("error", "warning")):
    """The rules that have a finding of these severities."""
    return {finding.rule for finding in report.findings if finding.severity in least}


MADE: list[Case] = []
case = partial(add, MADE)


# ---- plain nets: initialiser x activation x depth x width ----


def normal(variance):
    """Weights of that variance times 1 / fan_in."""
    return lambda w: nn.init.normal_(w, 0.0, math.sqrt(variance / w.shape[1]))


def torch_default(w):
    pass


ACTS = {
    "relu": (nn.ReLU, normal(2.0)),
    "leaky_relu": (lambda: nn.LeakyReLU(0.2), normal(2 / 1.04)),
    "tanh": (nn.Tanh, normal(1.0)),
    "selu": (nn.SELU, normal(1.0)),
    "elu": (nn.ELU, normal(1.55)),
    "gelu": (nn.GELU, normal(2.35)),
    "linear": (nn.Identity, normal(1.0)),
}


def mlp(act, fill, depth, width=WIDTH, bias=0.0, last=10, n_in=WIDTH):
    """Linear and activation `depth` times, then a linear head; bias None: torch's."""

    def build():
        layers = []
        for i in range(depth):
            linear = nn.Linear(n_in if i == 0 else width, width)
            layers += [linear, act()]
        layers.append(nn.Linear(width, last))
        with torch.no_grad():
            for layer in layers:
                if isinstance(layer, nn.Linear):
                    fill(layer.weight)
                    if bias is not None:
                        layer.bias.fill_(bias)
        return nn.Sequential(*layers)

    return build


for act, (module, fill) in ACTS.items():
    for depth, width in ((3, 128), (12, 256), (30, 256)):
        # GELU has no stable scale: what is left of the width's chance grows with depth.
        may = "explosion vanishing" if (act, depth) == ("gelu", 30) else ""
        case(f"{act} {depth}x{width}, right", mlp(module, fill, depth, width), may=may)
    case(
        f"{act} 25, N(0, 1e-4)", mlp(module, lambda w: nn.init.normal_(w, 0, 0.01), 25), "vanishing"
    )
    if act != "tanh":
        case(
            f"{act} 25, N(0, 1)",
            mlp(module, nn.init.normal_, 25),
            "explosion weight_scale",
            "dtype_range mean_drift saturation non_finite",
        )
    if act != "selu":
        case(f"{act} 3, torch's default", mlp(module, torch_default, 3, bias=None))
    case(f"{act} 40, torch's default", mlp(module, torch_default, 40, bias=None), "vanishing")

case(
    "tanh 10, N(0, 1)",
    mlp(nn.Tanh, nn.init.normal_, 10),
    "saturation gradient_explosion weight_scale",
)
case(
    "tanh 40, N(0, 1)",
    mlp(nn.Tanh, nn.init.normal_, 40),
    "saturation gradient_explosion weight_scale",
)
case("tanh 12, gain 5/3", mlp(nn.Tanh, normal(25 / 9), 12))
case("tanh 30, Xavier", mlp(nn.Tanh, nn.init.xavier_uniform_, 30))
case("tanh 60, orthogonal", mlp(nn.Tanh, nn.init.orthogonal_, 60))
case("relu 60, orthogonal √2", mlp(nn.ReLU, lambda w: nn.init.orthogonal_(w, 2**0.5), 60))
case("linear 60, orthogonal", mlp(nn.Identity, nn.init.orthogonal_, 60))
case("relu 40, Xavier", mlp(nn.ReLU, nn.init.xavier_normal_, 40), "vanishing")
case("relu 15, Xavier", mlp(nn.ReLU, nn.init.xavier_normal_, 15), "vanishing")
case("relu 3, Xavier", mlp(nn.ReLU, nn.init.xavier_normal_, 3))
case("linear 25, Kaiming", mlp(nn.Identity, normal(2.0), 25), "explosion")
case("relu 20, twice Kaiming's std", mlp(nn.ReLU, normal(8.0), 20), "explosion")
case("relu 4, N(0, 1)", mlp(nn.ReLU, nn.init.normal_, 4, 256), "explosion weight_scale")
case("sigmoid 2, torch's default", mlp(nn.Sigmoid, torch_default, 2, bias=None))
case("sigmoid 12, Xavier", mlp(nn.Sigmoid, nn.init.xavier_normal_, 12), "vanishing", "mean_drift")
case(
    "sigmoid 12, torch's default",
    mlp(nn.Sigmoid, torch_default, 12, bias=None),
    "vanishing",
    "collapse",
)
case("silu 4, right", mlp(nn.SiLU, normal(2.8), 4))
case("hardtanh 12, LeCun", mlp(nn.Hardtanh, normal(1.0), 12))
case(
    "autoencoder 784",
    lambda: nn.Sequential(
        *[
            m
            for a, b in ((784, 256), (256, 64), (64, 16), (16, 64), (64, 256), (256, 784))
            for m in (nn.Linear(a, b), nn.ReLU())
        ][:-1]
    ),
    x=lambda: torch.randn(BATCH, 784),
)


# ---- faults of one kind ----


def changed(build, change):
    """A net built and then changed under no_grad."""

    def made():
        net = build()
        with torch.no_grad():
            change(net)
        return net

    return made


def kill(share):
    def change(net):
        net[2].bias[: int(share * net[2].out_features)] = -100.0

    return change


def he(depth=3, width=WIDTH, **more):
    return mlp(nn.ReLU, normal(2.0), depth, width, **more)


case("relu, 75 % dead", changed(he(), kill(0.75)), "dead_units")
case("relu, 95 % dead", changed(he(), kill(0.95)), "dead_units", "mean_drift")
case("relu, 30 % dead", changed(he(), kill(0.30)))
case("relu, all dead", changed(he(), kill(1.0)), "dead_units collapse", "mean_drift vanishing")
case("relu, batch of 1", he(), x=lambda: torch.randn(1, WIDTH))
case("relu 20, batch of 4", he(20), x=lambda: torch.randn(4, WIDTH))
case(
    "tanh, pixels of 0 to 255",
    mlp(nn.Tanh, nn.init.xavier_uniform_, 3),
    "saturation input_scale",
    x=lambda: 255 * torch.rand(BATCH, WIDTH),
)
case("tanh, thrice the std", mlp(nn.Tanh, normal(9.0), 4), "saturation")
case(
    "sigmoid 3, N(0, 1)",
    mlp(nn.Sigmoid, nn.init.normal_, 3, 256, n_in=WIDTH),
    "saturation weight_scale",
)
case(
    "tanh, bias 20",
    mlp(nn.Tanh, normal(1.0), 3, bias=20.0),
    "saturation collapse mean_drift",
    "vanishing",
)
case(
    "relu, constant 0.1",
    mlp(nn.ReLU, lambda w: nn.init.constant_(w, 0.1), 3),
    "symmetric_units",
    "collapse mean_drift explosion",
)
case(
    "tanh, ones",
    mlp(nn.Tanh, nn.init.ones_, 3),
    "symmetric_units saturation",
    "collapse mean_drift",
)
case("relu, zeros", mlp(nn.ReLU, nn.init.zeros_, 3), "symmetric_units", "collapse dead_units")
case(
    "tanh, first layer constant",
    changed(mlp(nn.Tanh, normal(1.0), 3), lambda net: net[0].weight.fill_(0.05)),
    "symmetric_units",
    "collapse mean_drift",
)
case("relu, head of zeros", changed(he(), lambda net: net[-1].weight.zero_()))
case(
    "relu, uniform from 0 to 1",
    mlp(nn.ReLU, nn.init.uniform_, 4),
    "explosion",
    "weight_scale mean_drift dead_units",
)
case(
    "relu, weights shifted",
    changed(he(4), lambda net: [m.weight.add_(0.3) for m in net[::2]]),
    "mean_drift",
    "explosion dead_units",
    x=lambda: torch.rand(BATCH, WIDTH),
)
case("NaN in a weight", changed(he(), lambda net: net[2].weight[0].fill_(math.nan)), "non_finite")
case("NaN in the input", he(), "non_finite", x=lambda: torch.full((BATCH, WIDTH), math.nan))
case(
    "float16, N(0, 1)",
    lambda: mlp(nn.ReLU, nn.init.normal_, 12)().half(),
    "non_finite explosion weight_scale",
    "dtype_range",
    x=lambda: torch.randn(BATCH, WIDTH).half(),
)
case(
    "float16, N(0, 1e-6)",
    lambda: mlp(nn.ReLU, lambda w: nn.init.normal_(w, 0, 1e-3), 6)().half(),
    "vanishing dtype_range",
    "dead_units collapse",
    x=lambda: torch.randn(BATCH, WIDTH).half(),
)
case("float16, He", lambda: he(8)().half(), x=lambda: torch.randn(BATCH, WIDTH).half())
case("bfloat16, He", lambda: he(8)().bfloat16(), x=lambda: torch.randn(BATCH, WIDTH).bfloat16())


class Log(nn.Module):
    def forward(self, x):
        return x.log()


case("a log of what may be negative", lambda: nn.Sequential(he()(), Log()), "non_finite")
