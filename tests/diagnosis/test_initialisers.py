"""Which initialiser a weight was filled by."""

import pytest
import torch
from torch import nn

import initfast
from initfast import profile
from initfast.diagnosis.initialisers import recognise
from initfast.diagnosis.net import Net
from initfast.thresholds import limits


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


def test_torchs_default_is_recognised_in_a_transposed_convolution():
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.ConvTranspose2d(16, 48, 4, 2)])
    report = profile(net, torch.randn(2, 16, 5, 5))
    assert "torch's default" in Net(report.layers, report.inputs, limits()).initialiser(0)


def test_no_initialiser_fits():
    assert recognise(1.0, 256, 256, "relu", 1, 0.1) is None


def test_a_weight_far_too_large_is_told_though_its_variance_is_that_of_an_initialiser():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 1024), nn.ReLU(), nn.Linear(1024, 10))
    with torch.no_grad():
        net[2].weight.mul_(30)  # as by the fan-out, with tanh's gain
    report = profile(net, torch.randn(64, 32))
    assert [f.first for f in report.findings if f.rule == "weight_scale"] == [1]
    assert report.findings[0].severity == "warning"
