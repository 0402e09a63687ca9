"""Draws the picture at the top of the README: ``python benchmarks/picture.py``.

The std of the signal after each of 50 ReLU layers, for weights of three variances.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

import initfast

PICTURE = Path(__file__).with_name("signal.svg")
DEPTH, WIDTH, BATCH = 50, 256, 64


def stds(variance: float, seed: int = 0) -> list[float]:
    """The std after each layer, of weights N(0, variance) and no biases."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        *[m for _ in range(DEPTH) for m in (nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU())]
    )
    for layer in net[::2]:
        initfast.init.normal_(layer.weight, 0.0, math.sqrt(variance))
    return [layer.std for layer in initfast.profile(net, torch.randn(BATCH, WIDTH))]


def main() -> None:
    """Draw and write it."""
    shown = {"2/fan_in, holds": 2.0, "1/fan_in, vanishes": 1.0, "4/fan_in, explodes": 4.0}
    curves = {f"Var(w) = {words}": stds(scale / WIDTH) for words, scale in shown.items()}
    figure = initfast.plots.signals(curves)
    (axes,) = figure.axes
    axes.set_ylabel("std of the signal")
    figure.set_size_inches(7.5, 2.8)
    initfast.plots.save(figure, PICTURE)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
