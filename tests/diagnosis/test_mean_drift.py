"""A mean that drifts from layer to layer: where it is one, and what it is blamed on."""

import pytest
import torch
from cases.findings import layer, moments, report_of, said
from nets.labelled import BATCH, WIDTH, mlp, normal, rules_of
from torch import nn

from initfast import profile
from initfast.stats.weight import Weight


@pytest.mark.parametrize("units", [1, 2, 6])
def test_few_outputs_have_no_mean_to_drift(units):
    for seed in range(8):
        torch.manual_seed(seed)
        body = [nn.Linear(8, 64), nn.Softplus(), nn.Linear(64, 64), nn.Softplus()]
        net = nn.Sequential(*body, nn.Linear(64, units))
        assert "mean_drift" not in rules_of(profile(net, torch.randn(BATCH, 8)))


def test_few_channels_have_none_either():
    post, weight = moments(mean=9.0), Weight(64, 64, moments(std=0.1))
    head = layer("Conv2d", post=post, shape=(4, 1, 50, 50), weight=weight)
    assert not said(head, rule="mean_drift")
    wide = layer("Conv2d", post=post, shape=(4, 64, 10, 10), weight=weight)
    assert said(wide, rule="mean_drift")


def test_the_bias_is_blamed_where_nothing_else_explains_the_mean():
    def cause(build, x):
        _, report = report_of(build, x=x)
        found = next(f for f in report.findings if f.rule == "mean_drift" and f.first == 0)
        return found.cause

    pixels = 1 + 0.01 * torch.randn(BATCH, WIDTH)
    assert cause(mlp(nn.Tanh, normal(1.0), 1, bias=20.0), torch.randn(BATCH, WIDTH)).startswith(
        "the bias"
    )
    shifted = mlp(nn.Tanh, lambda w: normal(1.0)(w).add_(0.3), 1)
    assert cause(shifted, pixels).startswith("the weights have mean")
