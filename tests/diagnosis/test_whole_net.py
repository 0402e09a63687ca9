"""What is said of the whole: outputs far from the scale of the net's input, and that input."""

import pytest
import torch
from torch import nn

import initfast
from initfast import profile


def serious(report, rule):
    return [f for f in report.findings if f.severity != "info" and f.rule == rule]


def cured(net, x, report, rule):
    """Whether a rule is silent once the code of its first finding has run."""
    exec(serious(report, rule)[0].code, {"net": net, "report": report, "initfast": initfast})
    return not serious(profile(net, x), rule)


def pooled(factor, depth=7):
    """Convolutions with a pool after each: no run of three."""
    layers = []
    for _ in range(depth):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, 1, 1)]
        nn.init.kaiming_normal_(layers[-3].weight, nonlinearity="relu")
        nn.init.zeros_(layers[-3].bias)
        with torch.no_grad():
            layers[-3].weight.mul_(factor)
    return nn.Sequential(*layers)


def test_growth_over_pools_is_found_and_cured():
    torch.manual_seed(0)
    x = torch.randn(4, 8, 12, 12)
    assert not serious(profile(pooled(1.0), x), "explosion")
    net = pooled(6.0)
    report = profile(net, x)
    assert serious(report, "explosion") and cured(net, x, report, "explosion")


@pytest.mark.parametrize("factor", [1e5, 1e20])
def test_one_product_that_is_far_too_large(factor):
    class Bilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.u = nn.Parameter(factor * torch.randn(12, 3, 12))

        def forward(self, x):
            return torch.einsum("bi,ioj,bj->bo", x, self.u, x)

    torch.manual_seed(0)
    report = profile(nn.Sequential(nn.Linear(6, 12), nn.Tanh(), Bilinear()), torch.randn(32, 6))
    (finding,) = serious(report, "explosion")
    assert (finding.names, finding.first) == (("2", "2"), finding.last)


def test_an_output_that_has_faded_is_found():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 4, bias=False))
    with torch.no_grad():
        for layer in net:
            layer.weight.mul_(1e-3)
    report = profile(net, torch.randn(32, 16))
    assert serious(report, "vanishing") or serious(report, "weight_scale")


def test_a_large_input_is_named_and_its_code_fits_the_weights_to_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    pixels = torch.randint(0, 256, (32, 16)).float()
    report = profile(net, pixels)
    (finding,) = serious(report, "input_scale")
    assert finding.names == ("0", "0") and "normalise the input" in finding.advice
    assert cured(net, pixels, report, "input_scale")
    assert not serious(profile(net, torch.randn(32, 16)), "input_scale")
    normed = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    assert not serious(profile(normed, pixels), "input_scale")


def test_differences_that_fade_through_functions_of_the_users_own():
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(32, 32), Sine())])
    x = torch.randn(64, 32)
    for layer in net[::2]:
        nn.init.normal_(layer.weight, std=0.02)
    assert net(x).std(0).max() < 1e-6 < net(x).std()
    assert serious(profile(net, x), "vanishing")


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_weights(kind):
    torch.manual_seed(0)
    net, x = kind(8, 32, batch_first=True), torch.randn(4, 20, 8)
    report = profile(net, x)
    assert not [f for f in report.findings if f.severity != "info"]
    assert any("from step to step" in s.reason for s in report.skipped_checks)
    with torch.no_grad():
        net.weight_hh_l0.mul_(30)
    report = profile(net, x)
    (finding,) = serious(report, "recurrent")
    assert finding.value == pytest.approx(30 * 32**-0.5 / 3**0.5 * 32**0.5, rel=0.1)
    assert cured(net, x, report, "recurrent")
    with torch.no_grad():
        net.weight_ih_l0.mul_(1e-3)
    report = profile(net, x)
    assert serious(report, "recurrent") and cured(net, x, report, "recurrent")


def test_a_plain_recurrent_net_whose_gradient_does_not_come_back():
    torch.manual_seed(0)
    x = torch.randn(4, 200, 8)
    for kind in (nn.RNN, nn.LSTM):
        net = kind(8, 32, batch_first=True)
        assert not serious(profile(net, x), "recurrent")
        with torch.no_grad():
            net.weight_hh_l0.mul_(0.1)
        assert bool(serious(profile(net, x), "recurrent")) == (kind is nn.RNN)
        assert not serious(profile(net, x[:, :10]), "recurrent")
        if kind is nn.RNN:
            states = net(x.requires_grad_())[0]
            (grad,) = torch.autograd.grad(states[:, -1].sum(), x)
            assert not grad[:, 0].any() and grad[:, -1].any()
            assert "over 200 steps" in serious(profile(net, x), "recurrent")[0].measured
            assert cured(net, x, profile(net, x), "recurrent")


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_packed_sequences_are_as_long_as_they_are(kind):
    torch.manual_seed(0)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(10, 64, 8), [10] * 64)
    report = profile(kind(8, 8), (packed,))
    assert not [f for f in report.findings if "steps a gradient" in f.measured]
