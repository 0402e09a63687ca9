"""The value of a cross-entropy before training: when it is told, and when it is meant."""

import math

import pytest
import torch
import torch.nn.functional as F
from nets.labelled import rules_of
from torch import nn

import initfast
from initfast import profile

CLASSES = 20


class CosineHead(nn.Module):
    """CosFace's logits: scaled cosines, less a margin at the target where the loss takes it off."""

    def __init__(self, scale):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64))
        self.weight = nn.Parameter(torch.randn(CLASSES, 64))
        self.scale = scale

    def forward(self, x):
        cosines = F.linear(F.normalize(self.body(x)), F.normalize(self.weight))
        return self.scale * cosines


def margin_loss(y, targets):
    return F.cross_entropy(y - 64 * 0.35 * F.one_hot(targets, CLASSES), targets)


@pytest.fixture
def data():
    torch.manual_seed(0)
    return torch.randn(64, 32), torch.randint(CLASSES, (64,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaled_cosines_mean_to_begin_high(data, dtype):
    x, targets = data
    net = CosineHead(64.0).to(dtype)
    report = profile(net, x.to(dtype), loss=margin_loss, targets=targets)
    assert report.outcome.losses[0] > 3 * math.log(CLASSES)
    assert "initial_loss" not in rules_of(report)


def test_logits_that_the_loss_makes_are_not_the_nets(data):
    x, targets = data
    head = 40 * torch.randn(64, CLASSES)
    report = profile(
        nn.Linear(32, 64), x, loss=lambda y, t: F.cross_entropy(y @ head, t), targets=targets
    )
    assert report.outcome.losses[0] > 3 * math.log(CLASSES)
    assert "initial_loss" not in rules_of(report)


def test_a_head_that_is_too_large_is_told_and_cured(data):
    x, targets = data
    net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    with torch.no_grad():
        net[2].weight.mul_(60)
    report = profile(net, x, loss=F.cross_entropy, targets=targets)
    (finding,) = [f for f in report.findings if f.rule == "initial_loss"]
    exec(finding.code, {"net": net, "report": report, "initfast": initfast})
    assert "initial_loss" not in rules_of(profile(net, x, loss=F.cross_entropy, targets=targets))


class Similar(nn.Module):
    """Cosines of two views, at most 1."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(32, 16), nn.Linear(32, 16)

    def forward(self, x):
        return F.normalize(self.a(x)) @ F.normalize(self.b(x)).T


class Both(nn.Module):
    """Logits for the loss, and probabilities for whoever wants them."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        logits = self.head(x)
        return logits, logits.softmax(-1)


def decoder(bias):
    made = nn.Sequential(nn.Linear(32, 32), nn.Sigmoid())
    nn.init.normal_(made[0].weight, 0, 0.01)
    nn.init.constant_(made[0].bias, bias)
    return made


def grey(y):
    return F.mse_loss(y, torch.linspace(0.2, 0.7, y.numel()).view_as(y))


def black_and_white(y):
    return 0.5 * F.mse_loss(y, (torch.arange(y.numel()) % 2.0).view_as(y))


def to_first(y):
    return F.cross_entropy(y[0], torch.zeros(len(y[0]), dtype=torch.long))


@pytest.mark.parametrize(
    "make, loss",
    [
        (Similar, lambda y: -y.diagonal().mean()),
        (Both, to_first),
        (lambda: decoder(0.0), grey),
        (lambda: decoder(0.5), black_and_white),
    ],
    ids=["cosines", "probabilities beside logits", "grey", "half a squared error"],
)
def test_a_loss_that_resembles_another_is_not_taken_for_it(make, loss):
    torch.manual_seed(0)
    report = profile(make(), torch.randn(64, 32), loss=loss)
    assert "loss_arguments" not in [finding.rule for finding in report.findings]


def test_the_threshold_is_that_of_what_was_compared():
    torch.manual_seed(0)
    net, targets = nn.Sequential(nn.Linear(32, CLASSES)), torch.arange(64) % CLASSES
    report = profile(net, torch.randn(64, 32), loss=F.nll_loss, targets=targets)
    (found,) = [finding for finding in report.findings if finding.rule == "loss_arguments"]
    assert found.value < found.threshold == initfast.thresholds.THRESHOLDS["loss_gradient"].value
