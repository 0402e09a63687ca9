"""What an output costs, counted in calls of functions, which no other process disturbs."""

import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import initfast
from initfast.ops.schemas import LIBRARY

_FEW, _MANY = 10, 30


class OwnNorm(nn.LayerNorm):
    """A module that nobody knows."""

    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class Loop(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class Functions(nn.Module):
    """Functions that are no layers, and a view, which may be written through."""

    def __init__(self, depth):
        super().__init__()
        self.depth = depth

    def forward(self, x):
        for _ in range(self.depth):
            x = F.normalize((x * 2).view(-1, 8))
        return x


def chain(kind):
    return lambda depth: nn.Sequential(*[kind(8) for _ in range(depth)])


# The most calls for each layer, those of the plain forward included. Modules that other tests
# import add a few.
LIMITS = {
    "layer norms": (chain(nn.LayerNorm), 168),
    "modules of one's own": (chain(OwnNorm), 212),
    "linear layers and tanh in a loop": (Loop, 141),
    "functions": (Functions, 48),
}


def calls(run):
    """How many functions are called while it runs, in Python and in C."""
    count = 0

    def see(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    run()
    run()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.skipif(LIBRARY.backend == "reference", reason="the reference calls many of torch's")
@pytest.mark.parametrize(("net_of", "limit"), LIMITS.values(), ids=LIMITS)
def test_calls_for_each_layer(net_of, limit, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.distributed.tensor", raising=False)  # costs a look each
    x = torch.randn(4, 8)
    few, many = (calls(partial(initfast.profile, net_of(depth), x)) for depth in (_FEW, _MANY))
    assert (many - few) / (_MANY - _FEW) <= limit
