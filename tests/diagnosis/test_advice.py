"""Which scale a weight needs, and the initialiser that gives it."""

import json

import pytest
import torch
from nets.labelled import ACTS
from torch import nn

import initfast
from initfast import profile
from initfast.diagnosis.advice import (
    Act,
    activation_in,
    behaviour,
    call,
    needed,
)
from initfast.diagnosis.slopes import squared_slopes
from initfast.ops.activations import ACTIVATIONS
from initfast.report.report import Report


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
    "module, act",
    [
        (nn.LeakyReLU(0.5), Act("leaky_relu", 0.5, 0.0)),
        (nn.ELU(2.0), Act("elu", 2.0, 0.0)),
        (nn.CELU(3.0), Act("celu", 3.0, 0.0)),
        (nn.Softplus(2.0), Act("softplus", 2.0, 20.0)),
        (nn.SiLU(), Act.named("silu")),
    ],
    ids=str,
)
def test_an_activations_own_numbers_count(module, act):
    torch.manual_seed(0)
    z = torch.randn(1_000_000, dtype=torch.float64, requires_grad=True)
    y = module(z)
    (slope,) = torch.autograd.grad(y.sum(), z)
    square = y.square().mean().item()
    assert needed(act) == pytest.approx(1 / square, rel=0.02)
    assert behaviour(act).passes == pytest.approx(slope.square().mean().item() / square, rel=0.03)
    drifts = (z * y * slope).mean().item() / square
    assert behaviour(act).drifts == pytest.approx(drifts, rel=0.02)
    w = torch.empty(300, 400)
    exec(call(act), {"initfast": initfast, "w": w})
    assert 400 * w.var().item() == pytest.approx(needed(act), rel=0.03)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_squared_slope_wherever_the_pre_activations_are(name):
    """Also of a layer that is constant, or that has run away to float64's end."""
    act = Act.named(name)
    slope = ACTIVATIONS[name].slope
    z = torch.randn(200_000, dtype=torch.float64)
    for mean, std in ((0.3, 1.0), (-2.0, 5.0), (1.0, 1e-9), (-0.5, 0.0), (1e-30, 3e-31)):
        exact = slope(mean + std * z, act.alpha, act.beta).square().mean().item()
        assert squared_slopes(act, [mean], [std])[0] == pytest.approx(exact, rel=0.03, abs=1e-6)
    for mean, std in ((0.0, 1e300), (1e308, 1.0), (-1e300, 1e290)):
        right, left = (squared_slopes(act, [sign * 1e6], [1.0])[0] for sign in (1, -1))
        share = 0.5 if mean == 0 else float(mean > 0)
        found = squared_slopes(act, [mean], [std])[0]
        assert found == pytest.approx(share * right + (1 - share) * left, abs=1e-5)


def test_a_layer_tells_its_activations_numbers():
    pairs = [(nn.Linear(4, 4), act) for act in (nn.LeakyReLU(0.5), nn.ELU(2.0), nn.ReLU())]
    net = nn.Sequential(*[m for pair in pairs for m in pair], nn.Conv1d(3, 3, 1), nn.ELU(3.0))
    net.append(nn.Linear(4, 4))
    x = torch.randn(2, 3, 4)
    for report in (profile(net, x), profile(net, x, loss=torch.sum)):
        assert [layer.alpha for layer in report] == [0.5, 2.0, 0.0, 3.0, None]
        assert [layer.parameter for layer in report] == [f"{i}.weight" for i in (0, 2, 4, 6, 8)]
        again = Report.from_dict(json.loads(report.to_json()))
        assert [(x.alpha, x.parameter) for x in again] == [(x.alpha, x.parameter) for x in report]


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
