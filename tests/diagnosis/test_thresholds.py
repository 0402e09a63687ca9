"""Thresholds: where their lines come from, and that others can be drawn."""

import math

import pytest
import torch
from cases.findings import Measured, report_of, said
from cases.reports import layer
from nets.labelled import BATCH, WIDTH, Log, changed, he, kill, mlp, normal, torch_default
from torch import nn

import initfast
from initfast import profile
from initfast.diagnosis.diagnosing import diagnose
from initfast.report.report import Report
from initfast.stats.attention import Attention
from initfast.stats.moments import Moments
from initfast.thresholds import THRESHOLDS


def test_thresholds_can_be_replaced():
    _, report = report_of(mlp(nn.Tanh, normal(2.0), 3))
    assert not said(*report, rule="saturation")
    strict = diagnose(report, {"saturation_early": 0.01}).findings
    assert [f.threshold for f in strict if f.rule == "saturation"] == [0.01]
    _, deep = report_of(mlp(nn.ReLU, torch_default, 40, bias=None))
    relaxed = diagnose(deep, {"gradient_vanishing": 1e-30}).findings
    assert "vanishing" not in {f.rule for f in relaxed if f.severity != "info"}


def test_unknown_thresholds_are_refused():
    report = Report([])
    with pytest.raises(ValueError, match="no threshold is named 'saturation'; expected one"):
        diagnose(report, {"saturation": 1.0})
    for value in (-1.0, math.nan, "1", True):
        with pytest.raises(ValueError, match="threshold 'unit_std' is"):
            diagnose(report, {"unit_std": value})


def test_every_threshold_has_a_source_and_a_use():
    _, report = report_of(he())
    assert all(t.what and t.source for t in THRESHOLDS.values())
    assert report.findings == diagnose(report).findings == initfast.diagnose(report).findings
    assert diagnose(Report([])).findings == []


@pytest.fixture(scope="module")
def unsound():
    """Reports of which some check speaks, with gradients and without."""
    nets = [mlp(nn.ReLU, torch_default, 20, bias=None), mlp(nn.Tanh, normal(25.0), 12)]
    nets += [changed(he(4), kill(0.95)), mlp(nn.ReLU, normal(1e9), 12)]
    found = [report_of(build)[1] for build in nets]
    torch.manual_seed(0)
    x = torch.randn(BATCH, WIDTH)
    return found + [profile(build(), x, loss=lambda y: y.square().mean()) for build in nets[:2]]


@pytest.mark.parametrize("value", [0, 0.5, 1, 1e9, math.inf])
def test_any_line_may_be_drawn_anywhere(unsound, value):
    for report in unsound:
        assert all(map(str, diagnose(report, dict.fromkeys(THRESHOLDS, value)).findings))
    for name in THRESHOLDS:
        assert all(map(str, diagnose(unsound[2], {name: value}).findings))


def test_each_line_changes_what_is_said(unsound):
    torch.manual_seed(0)
    reports = [*of_layers(), *of_weights(), *of_recurrent_nets(), *of_losses(), *of_numbers()]
    reports += unsound
    usual = [said_by(report) for report in reports]

    def is_heard(name):
        return any(
            said_by(report, {name: value}) != before
            for report, before in zip(reports, usual, strict=True)
            for value in (1e12, 1e-6, 1.0)
        )

    assert [name for name in THRESHOLDS if not is_heard(name)] == []


def small():
    """Two layers, the first of which saturates by its bias."""
    net = nn.Sequential(nn.Linear(32, 4), nn.Tanh(), nn.Linear(4, 4))
    nn.init.constant_(net[0].bias, 9.0)
    return net


def of_layers():
    """Reports of activations, norms and sums that some check looks at."""
    yield profile(small(), torch.randn(64, 32))
    yield profile(nn.Sequential(nn.Linear(32, 32), Log()), torch.randn(64, 32))
    yield profile(mlp(nn.Hardtanh, normal(30.0), 2)(), torch.randn(BATCH, WIDTH))
    yield profile(he()(), torch.randn(2, WIDTH))
    normed = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 2))
    nn.init.constant_(normed[1].weight, 0.3)
    yield profile(normed, torch.randn(64, 8))
    yield profile(Placed(), torch.arange(8).view(2, 4))
    router = nn.Sequential(nn.Linear(32, 8), nn.Softmax(-1), nn.Linear(8, 4))
    router[0].weight.data.mul_(30)
    yield profile(router, torch.randn(64, 32))


def of_weights():
    """Of weights that are too small, too large, or follow each other."""
    odd = he(3)()
    odd[2].weight.data.mul_(0.7)
    nn.init.constant_(odd[4].bias, -9.0)
    yield profile(odd, torch.randn(BATCH, WIDTH))
    half = mlp(nn.ReLU, lambda w: nn.init.normal_(w, 0, 1e-3), 6)().half()
    yield profile(half, torch.randn(BATCH, WIDTH).half())
    follows = nn.Linear(32, 32, bias=False)
    nn.init.constant_(follows.weight, 0.2)
    follows.weight.data[::2] = -0.2
    yield profile(follows, torch.ones(4, 32))


def of_recurrent_nets():
    """Of recurrent modules, whose steps forget or fade."""
    yield profile(nn.RNN(8, 16), torch.randn(5, 4, 8))
    fading = nn.RNN(8, 16)
    nn.init.normal_(fading.weight_hh_l0, 0, 0.05)
    yield profile(fading, torch.randn(60, 4, 8))
    yield profile(nn.LSTM(8, 16), torch.randn(20, 4, 8))
    yield profile(nn.LSTM(8, 16), torch.randn(20, 4, 8), measure="recurrent")


def of_losses():
    """Of losses that are far from what they should begin at, or take the wrong thing."""
    classes, likely = torch.zeros(64, dtype=torch.long), nn.functional.nll_loss
    x, far = torch.randn(64, 32), torch.full((64, 4), 100.0)
    yield profile(small(), x, loss=nn.CrossEntropyLoss(), targets=classes)
    yield profile(small(), x, loss=nn.functional.mse_loss, targets=far)
    picked = nn.Sequential(nn.Linear(32, 8))
    yield profile(picked, x, loss=lambda y: 2 * likely(y, classes))


def of_numbers():
    """Of numbers that no small net has: samples that meet, attention that is flat."""
    numbers = [{"batch_std": 1.0, "correlation": 0.5}, {"batch_std": 0.01, "correlation": 0.97}]
    yield Report([Measured(n, is_returned=True, name=str(i)) for i, n in enumerate(numbers)])
    for begin in (0.5, 0.95):  # one direction needs a stack of layers
        rises = [{"batch_std": 1.0, "correlation": c} for c in (*[begin] * 9, 0.99)]
        yield Report([Measured(n, name=str(i)) for i, n in enumerate(rises)])
    flat = Attention(Moments(64, mean=0.0, m2=6400.0, min=-30.0, max=30.0), 8, 0.1)
    yield Report([layer("0", "softmax", attention=flat)])


class Placed(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(8, 4), nn.Embedding(4, 4)
        self.places.weight.data.mul_(4)

    def forward(self, x):
        return self.words(x) + self.places(torch.arange(4))


def said_by(report, thresholds=None):
    found = diagnose(report, thresholds).findings
    return [(f.rule, f.severity, f.first, f.last) for f in found]
