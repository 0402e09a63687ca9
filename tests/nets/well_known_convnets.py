"""Well-known convolutional nets, small, initialised as by their authors and torch: no faults."""

from __future__ import annotations

import itertools
from functools import partial

import torch
import torch.nn.functional as F
from nets.labelled import Case, add
from torch import Tensor, nn

CONVOLUTIONAL: list[Case] = []
case = partial(add, CONVOLUTIONAL)


def images(n=16, channels=3, size=32):
    return lambda: torch.randn(n, channels, size, size)


def lenet(act):
    return lambda: nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        act(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        act(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        act(),
        nn.Linear(120, 84),
        act(),
        nn.Linear(84, 10),
    )


case("LeNet, relu", lenet(nn.ReLU), x=images(channels=1, size=28))
case("LeNet, tanh", lenet(nn.Tanh), x=images(channels=1, size=28))


def vgg():
    layers, c = [], 3
    for width in (32, 32, "M", 64, 64, "M", 128, 128, "M", 256, 256):
        if width == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(c, width, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        layers += [conv, nn.ReLU()]
        c = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def alexnet():
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, 2, 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 96, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(96, 192, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(192, 128, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(2048, 512),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


case("VGG", vgg, x=images(8))
case("AlexNet", alexnet, x=images())


class Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(b), nn.BatchNorm2d(b)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.down = (
            nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))
            if stride > 1
            else nn.Identity()
        )
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.down(x))


def resnet():
    blocks = [
        Block(a, b, s) for a, b, s in ((16, 16, 1),) * 5 + ((16, 32, 2),) + ((32, 32, 1),) * 5
    ]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


case("ResNet, training mode", resnet, x=images(8, size=16))
case("ResNet, evaluation mode", resnet, x=images(8, size=16), training=False)


def mnasnet():
    """Inverted bottlenecks: each weight's variance is that of its own width, and a norm follows."""
    blocks = []
    for a, b in itertools.pairwise((3, 6, 8, 12, 16, 24, 32, 48, 64, 96)):
        wide = 6 * a
        convs = (
            nn.Conv2d(a, wide, 1, bias=False),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            nn.Conv2d(wide, b, 1, bias=False),
        )
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers = [m for conv in convs for m in (conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())]
        blocks.append(nn.Sequential(*layers[:-1]))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


case("MNASNet", mnasnet, x=images(4, size=16))


class UNet(nn.Module):
    def __init__(self, norm):
        super().__init__()

        def double(a, b):
            convs = (nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1))
            if not norm:
                for conv in convs:
                    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            bn = nn.BatchNorm2d if norm else nn.Identity
            return nn.Sequential(*[m for c in convs for m in (c, bn(b), nn.ReLU())])

        self.down = nn.ModuleList(double(a, b) for a, b in ((3, 16), (16, 32), (32, 64)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, 2) for c in (32, 16))
        self.join = nn.ModuleList(double(2 * c, c) for c in (32, 16))
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = join(torch.cat([up(x), skip], 1))
        return self.head(x)


case("U-Net, batch norm", lambda: UNet(True), x=images(4))
case("U-Net, He", lambda: UNet(False), x=images(4))


def generator():
    sizes = (64, 128, 64, 32, 3)
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        conv = nn.ConvTranspose2d(a, b, 4, 2 if i else 1, 1 if i else 0, bias=False)
        nn.init.normal_(conv.weight, 0.0, 0.02)
        layers += [conv, nn.BatchNorm2d(b), nn.ReLU()] if i < 3 else [conv, nn.Tanh()]
    return nn.Sequential(*layers)


case("DCGAN's generator", generator, x=lambda: torch.randn(16, 64, 1, 1))


def mixing(a, b):
    return nn.Sequential(nn.Linear(a, b), nn.GELU(), nn.Linear(b, a))


class ConvNeXt(nn.Module):
    """Depthwise convolutions, layer norm, and branches scaled by 1e-6."""

    def __init__(self, depth=8, d=64):
        super().__init__()
        self.stem = nn.Conv2d(3, d, 4, 4)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(d, d, 7, padding=3, groups=d) for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(depth))
        self.mlps = nn.ModuleList(mixing(d, 4 * d) for _ in range(depth))
        self.scale = nn.Parameter(torch.full((d,), 1e-6))
        self.head = nn.Linear(d, 10)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm, mlp in zip(self.depthwise, self.norms, self.mlps, strict=True):
            x = x + (self.scale * mlp(norm(conv(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


case("ConvNeXt", ConvNeXt, x=images(4))
