"""Layers and nets for the tests of reports."""

import torch
from torch import nn

from initfast.report import folding
from initfast.report.report import Report
from initfast.stats.layer import Layer, Skipped
from initfast.stats.moments import Moments


def layer(name="0", op="linear", std=1.0, shape=(16, 8), post=None, **more):
    n = 128
    post = post or Moments(n, 0, 3, 0, 0.5, std * std * (n - 1), -2.0, 2.0)
    return Layer(name, op, shape, shape, torch.float32, post, **more)


def fold(layers):
    return folding.fold(layers, [one.name for one in layers])


def mlp(depth, width=16, act=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), act())])


def nested():
    """A report of blocks, one within another."""
    names = ["stem", "body.0.conv", "body.0.norm", "body.1.conv", "body.1.norm", "head"]
    layers = [layer(name, name.split(".")[-1], type=name.split(".")[-1].title()) for name in names]
    layers[2] = layer("body.0", "add + relu", type="Block")
    layers[4] = layer("body.1", "add + relu", type="Block", also=("body",))
    return Report(
        layers,
        skipped=[Skipped("stem", "Stem[1]", "torch.int64")],
        notes=["A note."],
        root="net.module",
    )
