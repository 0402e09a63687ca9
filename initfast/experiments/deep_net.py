"""The net of the classic experiments: how far a signal gets through it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from initfast.profiling.profile import profile

DEPTH, WIDTH, BATCH = 100, 256, 16
"""The classic net: this many linear layers, this wide, fed a batch of this many normal inputs."""

Fill = Callable[[Tensor, torch.Generator], object]
Act = Callable[[Tensor], Tensor]


class DeepNet(nn.Module):
    """DEPTH linear layers of WIDTH without biases, each followed by the activation.

    Args:
        act: the activation, a function of a tensor.
        fill: ``fill(weight, generator)`` fills a weight ``[WIDTH, WIDTH]`` in place.
        generator: what the weights are drawn with, layer by layer.
    """

    def __init__(self, act: Act, fill: Fill, generator: torch.Generator) -> None:
        super().__init__()
        self.act = act
        # Not nn.Linear(...) alone: that would draw weights too, from torch's global generator.
        self.layers = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, WIDTH, WIDTH, bias=False) for _ in range(DEPTH)
        )
        with torch.no_grad():
            for weight in self.parameters():
                fill(weight, generator)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, WIDTH]`` to ``[batch, WIDTH]``."""
        for linear in self.layers:
            x = self.act(linear(x))
        return x


def run(act: Act, fill: Fill, seed: int) -> tuple[tuple[float, ...], str | None]:
    """The std after each finite layer of the classic net, and the first non-finite module."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, WIDTH, generator=generator)
    report = profile(DeepNet(act, fill, generator), x, stop_at_nonfinite=True)
    culprit = report.first_nonfinite.name if report.first_nonfinite else None
    finite = itertools.takewhile(lambda layer: layer.name != culprit, report.layers)
    return tuple(layer.std for layer in finite), culprit


def normal(variance: float) -> Fill:
    """Fills a weight with N(0, variance)."""
    std = math.sqrt(variance)
    return lambda weight, generator: weight.normal_(0.0, std, generator=generator)


def identity(x: Tensor) -> Tensor:
    """No activation."""
    return x
