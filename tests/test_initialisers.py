"""Which initialiser a weight was filled by, and which one it should be."""

import pytest
import torch
from labelled_nets import ACTS
from torch import nn

import initfast
from initfast.initialisers import activation_in, call, needed, recognise


def fan(shape):
    return nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


@pytest.mark.parametrize(
    "fill, name",
    [
        (lambda w: nn.init.kaiming_uniform_(w, 5**0.5), "torch's default"),
        (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), "kaiming"),
        (nn.init.xavier_uniform_, "Xavier"),
        (initfast.init.lecun_normal_, "LeCun"),
        (lambda w: nn.init.normal_(w, 0, 0.02), "normal of std 0.02"),
        (nn.init.orthogonal_, "fan_out"),
    ],
)
def test_initialisers_are_recognised(fill, name):
    torch.manual_seed(0)
    w = torch.empty(300, 190)
    fill(w)
    known = recognise(w.var().item(), *fan(w.shape), "relu", 1, 0.02)
    assert known is not None and name in known.name


def test_needed_scale():
    assert needed("relu") == 2 and needed("tanh") == needed(None) == 1
    assert needed("leaky_relu") == pytest.approx(2 / (1 + 0.01**2), rel=1e-4)
    for act, (module, _) in ACTS.items():
        if act in ("relu", "gelu", "elu"):
            z = torch.randn(1_000_000, dtype=torch.float64)
            assert needed(act) == pytest.approx(1 / module()(z).square().mean().item(), rel=0.01)


@pytest.mark.parametrize("act", [None, "relu", "leaky_relu", "tanh", "gelu", "silu", "selu"])
def test_the_initialiser_advised_gives_the_variance_needed(act):
    w = torch.empty(400, 300)
    exec(call(act), {"initfast": initfast, "w": w})
    assert 300 * w.var().item() == pytest.approx(needed(act), rel=0.03)


@pytest.mark.parametrize(
    "op, act",
    [
        ("linear + tanh", "tanh"),
        ("tanh", "tanh"),
        ("linear", None),
        ("BatchNorm2d + relu", "relu"),
        ("Conv2d", None),
    ],
)
def test_the_activation_of_an_operator(op, act):
    assert activation_in(op) == act


def test_no_initialiser_fits():
    assert recognise(1.0, 256, 256, "relu", 1, 0.1) is None
