"""Ten kinds of nets at initialisation, drawn by a seed, each with an input."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor, nn

RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU)
BOUNDED = (nn.Tanh, nn.Sigmoid, nn.SELU, nn.ELU)

Drawn = tuple[nn.Module, Tensor]


def _mlp(acts: tuple[type[nn.Module], ...], draw: random.Random) -> Drawn:
    width, depth = draw.choice((64, 128, 256)), draw.randint(4, 12)
    act, batch = draw.choice(acts), draw.choice((1, 16, 64))
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), act())]
    net = nn.Sequential(*layers, nn.Linear(width, 10))
    if draw.random() < 0.5:
        for layer in net[::2]:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return net, torch.randn(batch, width)


def rectified_mlp(draw: random.Random) -> Drawn:
    """Linear layers with ReLU, leaky ReLU, GELU or SiLU; torch's weights or He's."""
    return _mlp(RECTIFIERS, draw)


def bounded_mlp(draw: random.Random) -> Drawn:
    """Linear layers with tanh, the sigmoid, SELU or ELU."""
    return _mlp(BOUNDED, draw)


def deep_linear(draw: random.Random) -> Drawn:
    """Linear layers alone, of weights that hold the scale."""
    width, depth = draw.choice((64, 128, 256)), draw.randint(10, 30)
    net = nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(depth)])
    for layer in net:
        nn.init.normal_(layer.weight, 0.0, 1 / math.sqrt(width))
    return net, torch.randn(draw.choice((1, 16, 64)), width)


def cnn(draw: random.Random) -> Drawn:
    """Padded convolutions with ReLU or GELU, max pooling, and a linear head."""
    width, act = draw.choice((16, 32, 64)), draw.choice((nn.ReLU, nn.GELU))
    layers: list[nn.Module] = []
    before = 3
    for stage in range(3):
        for _ in range(draw.randint(1, 2)):
            layers += [nn.Conv2d(before, width << stage, 3, padding=1), act()]
            before = width << stage
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(before * 4, 64), act(), nn.Linear(64, 10)]
    return nn.Sequential(*layers), torch.randn(draw.choice((4, 16)), 3, 16, 16)


def normed_cnn(draw: random.Random) -> Drawn:
    """Convolutions, some of them depthwise, with batch or group norm and average pooling."""
    width, layers = draw.choice((16, 32, 64)), list[nn.Module]()
    before, groups = 3, draw.random() < 0.5
    for _ in range(draw.randint(3, 6)):
        norm = nn.GroupNorm(4, width) if groups else nn.BatchNorm2d(width)
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), norm, nn.ReLU()]
        if before == width and draw.random() < 0.5:
            layers.append(nn.Conv2d(width, width, 3, padding=1, groups=width))
        before = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(width, 10)]
    return nn.Sequential(*layers), torch.randn(16, 3, 16, 16)


class _Basic(nn.Module):
    """The basic block of He et al. 2016."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        is_one = stride == 1 and before == width
        self.down = (
            nn.Identity()
            if is_one
            else nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.down(x))


def resnet(draw: random.Random) -> Drawn:
    """A residual net of basic blocks."""
    width, blocks = draw.choice((16, 32)), list[nn.Module]()
    stem = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    before = width
    for stage in range(3):
        for i in range(draw.randint(1, 2)):
            stride = 2 if stage and not i else 1
            blocks.append(_Basic(before, width << stage, stride))
            before = width << stage
    net = nn.Sequential(
        *stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)
    )
    return net, torch.randn(16, 3, 16, 16)


def _encoder(draw: random.Random, norm_first: bool) -> Drawn:
    width, heads = draw.choice((64, 128)), draw.choice((2, 4))
    act, depth = draw.choice(("relu", "gelu")), draw.randint(2, 4)
    layers = [
        nn.TransformerEncoderLayer(
            width, heads, 4 * width, draw.choice((0.0, 0.1)), act, batch_first=True,
            norm_first=norm_first,
        )
        for _ in range(depth)
    ]  # fmt: skip
    net = nn.Sequential(nn.Embedding(1000, width), *layers, nn.LayerNorm(width))
    net.append(nn.Linear(width, 100))
    return net, torch.randint(1000, (4, 32))


def pre_norm_transformer(draw: random.Random) -> Drawn:
    """An embedding and torch's encoder layers, norms first."""
    return _encoder(draw, True)


def post_norm_transformer(draw: random.Random) -> Drawn:
    """The same with the norms after the sums."""
    return _encoder(draw, False)


class _Mixing(nn.Module):
    """A block of an MLP-Mixer (Tolstikhin et al. 2021)."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.places = nn.Sequential(
            nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places)
        )
        self.units = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        x = x + self.places(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.units(self.norm2(x))


def mlp_mixer(draw: random.Random) -> Drawn:
    """Linear layers over places and over units in turn."""
    width, places = draw.choice((64, 128)), draw.choice((16, 32))
    blocks = [_Mixing(places, width) for _ in range(draw.randint(2, 4))]
    net = nn.Sequential(nn.Linear(48, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 10))
    return net, torch.randn(8, places, 48)


class _Gated(nn.Module):
    """A gated linear unit with a residual sum (Shazeer 2020)."""

    def __init__(self, width: int, gate: nn.Module | None) -> None:
        super().__init__()
        self.norm, self.gate = nn.RMSNorm(width), gate
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.side = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear((4 if gate else 2) * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        h = self.norm(x)
        if self.gate is None:
            return x + self.down(nn.functional.glu(self.up(h)))
        return x + self.down(self.gate(self.side(h)) * self.up(h))


def glu_net(draw: random.Random) -> Drawn:
    """Residual blocks of GLU, SwiGLU or GEGLU."""
    width = draw.choice((64, 128))
    gate = draw.choice((None, nn.SiLU(), nn.GELU()))
    blocks = [_Gated(width, gate) for _ in range(draw.randint(3, 6))]
    net = nn.Sequential(nn.Linear(32, width), *blocks, nn.RMSNorm(width), nn.Linear(width, 10))
    return net, torch.randn(draw.choice((16, 64)), 32)


KINDS: tuple[Callable[[random.Random], Drawn], ...] = (
    *(rectified_mlp, bounded_mlp, deep_linear, cnn, normed_cnn, resnet),
    *(pre_norm_transformer, post_norm_transformer, mlp_mixer, glu_net),
)


def drawn(kind: Callable[[random.Random], Drawn], seed: int) -> Drawn:
    """A net of a kind, and its input."""
    torch.manual_seed(seed)
    return kind(random.Random(seed))
