"""Nets that train as they are built, of every kind that people build: none has a fault.

The hand-written ones are initialised as their authors do; the libraries' as the libraries do,
without downloads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Healthy:
    """A net without a fault, and what it is given."""

    name: str
    build: Callable[[], nn.Module]
    x: Callable[[], Any]


OWN: list[Healthy] = []


def add(
    name: str,
    build: Callable[[], nn.Module],
    x: Callable[[], Any],
    to: list[Healthy] = OWN,
) -> None:
    to.append(Healthy(name, build, x))


def normal(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(shape)


def ids(vocabulary: int, *shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.randint(vocabulary, shape)


def images(size: int, n: int = 4, channels: int = 3) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(n, channels, size, size)


def stack(sizes: list[int], act: Any = nn.ReLU, norm: Any = None) -> list[nn.Module]:
    """Linear layers with an activation, and a norm if any, after all but the last."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers.append(nn.Linear(a, b))
        if i < len(sizes) - 2:
            layers += [norm(b)] if norm else []
            layers.append(act())
    return layers


def mlp(sizes: list[int], act: Any = nn.ReLU, norm: Any = None) -> nn.Module:
    return nn.Sequential(*stack(sizes, act, norm))


def filled(net: nn.Module, fill: Callable[[torch.Tensor], Any]) -> nn.Module:
    """The net with its linear layers' and convolutions' weights filled, and biases of zero."""
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            fill(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def he(net: nn.Module) -> nn.Module:
    return filled(net, partial(nn.init.kaiming_normal_, nonlinearity="relu"))


# ---- perceptrons and reinforcement learning ----


class ActorCritic(nn.Module):
    """PPO's: orthogonal weights of gain √2, 0.01 for the policy and 1 for the value."""

    def __init__(self) -> None:
        super().__init__()
        self.body = filled(
            nn.Sequential(nn.Linear(17, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()),
            partial(nn.init.orthogonal_, gain=math.sqrt(2)),
        )
        self.policy, self.value = nn.Linear(64, 6), nn.Linear(64, 1)
        nn.init.orthogonal_(self.policy.weight, 0.01)
        nn.init.orthogonal_(self.value.weight, 1.0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.body(x)
        return self.policy(h), self.value(h)


class Dueling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(nn.Conv2d(4, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32 * 9 * 9, 128), nn.ReLU()),
        )
        self.value, self.advantage = mlp([128, 64, 1]), mlp([128, 64, 6])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv(x)
        a = self.advantage(h)
        return self.value(h) + a - a.mean(1, keepdim=True)


class Gaussian(nn.Module):
    """SAC's policy: a squashed mean and a clamped log of the deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean, self.log_std = (
            mlp([11, 128, 128, 128]),
            *(
                nn.Linear(128, 3),
                nn.Linear(128, 3),
            ),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.body(x))
        std = self.log_std(h).clamp(-20, 2).exp()
        return torch.tanh(self.mean(h) + std * torch.randn_like(std))


add("PPO", ActorCritic, normal(64, 17))
add("dueling DQN", Dueling, lambda: torch.rand(32, 4, 84, 84))
add("SAC", Gaussian, normal(64, 11))
add("MLP, ReLU, He, 20 layers", lambda: he(mlp([64, *[128] * 20, 10])), normal(64, 64))
add("MLP, ReLU, torch's default, 4", lambda: mlp([32, 128, 128, 128, 4]), normal(64, 32))
add("MLP, GELU, 3", lambda: mlp([32, 64, 64, 4], nn.GELU), normal(64, 32))
add("MLP, batch norm, 16", lambda: mlp([32, *[64] * 16, 4], norm=nn.BatchNorm1d), normal(64, 32))
add("MLP, layer norm, 12", lambda: mlp([32, *[64] * 12, 4], norm=nn.LayerNorm), normal(64, 32))
add(
    "SELU, LeCun, 16",
    lambda: filled(
        mlp([64, *[96] * 16, 4], nn.SELU),
        lambda w: nn.init.normal_(w, 0, w.shape[1] ** -0.5),
    ),
    normal(64, 64),
)
add(
    "tanh, Xavier, 10",
    lambda: filled(mlp([64, *[96] * 10, 4], nn.Tanh), nn.init.xavier_normal_),
    normal(64, 64),
)
add("autoencoder", lambda: mlp([256, 128, 32, 8, 32, 128, 256]), lambda: torch.rand(64, 256))


# ---- fields and flows ----


class Sine(nn.Module):
    def __init__(self, frequency: float = 30.0) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.frequency * x)


def siren() -> nn.Module:
    """Sitzmann et al. 2020: uniform in ±1/n first, then in ±√(6/n)/30."""
    net = mlp([2, 128, 128, 128, 128, 3], Sine)
    for i, module in enumerate(m for m in net if isinstance(m, nn.Linear)):
        n = module.in_features
        bound = 1 / n if i == 0 else math.sqrt(6 / n) / 30
        nn.init.uniform_(module.weight, -bound, bound)
    return net


class NeRF(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = mlp([39, 128, 128, 128, 128]), mlp([128 + 39, 128, 128])
        self.density, self.colour = nn.Linear(128, 1), mlp([128, 64, 3])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        waves = [f(2.0**k * x) for k in range(6) for f in (torch.sin, torch.cos)]
        x = torch.cat([x, *waves], -1)
        h = F.relu(self.second(torch.cat([F.relu(self.first(x)), x], -1)))
        return torch.cat([self.colour(h).sigmoid(), F.softplus(self.density(h))], -1)


class Coupling(nn.Module):
    """RealNVP's: the last layer of each of its nets at zero, so that it starts as the identity."""

    def __init__(self, flip: bool) -> None:
        super().__init__()
        self.flip, self.net = flip, mlp([4, 64, 64, 8])
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        a, b = (b, a) if self.flip else (a, b)
        s, t = self.net(a).chunk(2, -1)
        b = b * torch.tanh(s).exp() + t
        return torch.cat([b, a] if self.flip else [a, b], -1)


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp([144, 128, 64, 16]), mlp([8, 64, 128, 144])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return self.decoder(z).sigmoid()


add("SIREN", siren, lambda: 2 * torch.rand(256, 2) - 1)
add("NeRF", NeRF, lambda: 2 * torch.rand(256, 3) - 1)
add("RealNVP", lambda: nn.Sequential(*[Coupling(bool(i % 2)) for i in range(8)]), normal(64, 8))
add("VAE", VAE, lambda: torch.rand(64, 144))


# ---- images ----


def dcgan(generator: bool) -> nn.Module:
    """Radford et al. 2016: weights of N(0, 0.02²)."""
    if generator:
        layers = [nn.ConvTranspose2d(32, 64, 4, 1), nn.BatchNorm2d(64), nn.ReLU()]
        layers += [nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU()]
        layers += [nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh()]
    else:
        layers = [nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(32, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(64, 1, 4)]
    for layer in layers:
        if hasattr(layer, "weight") and layer.weight.dim() > 1:
            nn.init.normal_(layer.weight, 0, 0.02)
    return nn.Sequential(*layers)


def vgg(norm: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    n = 3
    for width in (16, 16, 0, 32, 32, 0, 64, 64, 0):
        if not width:
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(n, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] if norm else []
        layers.append(nn.ReLU())
        n = width
    layers += [nn.Flatten(), nn.Linear(64 * 16, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 10)]
    net = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


add("DCGAN's generator", lambda: dcgan(True), normal(32, 32, 1, 1))
add("DCGAN's discriminator", lambda: dcgan(False), images(16, 32))
add("VGG, He", vgg, images(32))
add("VGG, batch norm", lambda: vgg(True), images(32))
