"""What is said of gradients along the depth where some layers have none."""

import pytest
import torch
from nets.labelled import BATCH, WIDTH, mlp, rules_of, torch_default
from torch import nn

from initfast import profile

RULES = {"gradient_explosion", "gradient_vanishing"}


def loss(y):
    return y.square().mean()


def skipped(report):
    return {s.rule: s.reason for s in report.skipped_checks if s.rule in RULES}


def chaotic(frozen=0):
    torch.manual_seed(0)
    net = mlp(nn.Tanh, nn.init.normal_, 12)()
    net[: 2 * frozen].requires_grad_(False)
    return net


@pytest.mark.parametrize("frozen", [1, 3, 8, 12])
def test_frozen_layers_are_left_out_and_said_so(frozen):
    report = profile(chaotic(frozen), torch.randn(BATCH, WIDTH), loss=loss)
    assert all(layer.grad is None for layer in report[:frozen])
    reasons = skipped(report)
    assert reasons.keys() == RULES
    which = f"layers 0 to {frozen - 1} ('0' to '{2 * frozen - 2}') are" if frozen > 1 else "layer 0"
    assert all(reason.startswith(which) and "frozen" in reason for reason in reasons.values())
    found = [f for f in report.findings if f.rule == "gradient_explosion"]
    assert [f.first for f in found] == ([frozen] if frozen <= 3 else [])


class Detached(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.back, self.head, self.how = chaotic(), nn.Linear(10, 2), how

    def forward(self, x):
        if self.how == "detach":
            return self.head(self.back(x).detach())
        with torch.no_grad():
            h = self.back(x)
        return self.head(h)


@pytest.mark.parametrize("how", ["detach", "no_grad"])
def test_what_no_gradient_comes_to_is_said(how):
    report = profile(Detached(how), torch.randn(BATCH, WIDTH), loss=loss)
    assert not rules_of(report) & RULES
    assert all(r.startswith("layers 0 to 12 ('back.0'") for r in skipped(report).values())
    assert skipped(report).keys() == RULES


@pytest.mark.parametrize("frozen", [False, True])
def test_the_ends_need_no_gradient_of_the_embedding(frozen):
    net = nn.Sequential(nn.Embedding(50, WIDTH), *mlp(nn.ReLU, torch_default, 16, bias=None)())
    net[0].weight.requires_grad_(not frozen)
    report = profile(net, torch.randint(50, (BATCH,)), loss=loss)
    worst = next(f for f in report.findings if f.rule == "gradient_vanishing")
    # The first layer of the run is judged where its output has a gradient: its weight is no leaf
    # that must be trained, nor its input.
    assert (worst.first, worst.last) == (1, 17) and not skipped(report)


def test_a_net_of_few_layers_is_said_to_have_no_depth():
    report = profile(nn.Linear(8, 4), torch.randn(16, 8), loss=loss)
    assert skipped(report).keys() == RULES
    assert all("follow one another" in reason for reason in skipped(report).values())
