"""assert_healthy: findings as a failed assertion."""

import pytest
import torch
from cases.reports import mlp
from torch import nn

import initfast


def shouting(depth=12):
    net = nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(64, 64), nn.ReLU())])
    for linear in net[::2]:
        nn.init.normal_(linear.weight)
    return net


def test_a_healthy_net_gives_its_report():
    net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    report = initfast.assert_healthy(net, torch.randn(32, 64))
    assert isinstance(report, initfast.Report) and len(report) == 2


def test_the_error_has_the_findings_and_their_rows():
    with pytest.raises(AssertionError) as raised:
        initfast.assert_healthy(shouting(), torch.randn(32, 64))
    text = str(raised.value)
    assert text.startswith("error: explosion in layers 0 to 11")
    assert "warning" not in text
    table = text.split("\n\n")[-1].splitlines()
    assert [line.split()[0] for line in table[2:]] == ["0", "22"]


def test_the_level_decides_and_what_is_ignored():
    x = torch.randn(32, 64)
    with pytest.raises(AssertionError, match="warning: weight scale"):
        initfast.assert_healthy(shouting(), x, level="warning", ignore=["explosion"])
    initfast.assert_healthy(shouting(), x, ignore="explosion")
    both = ("explosion", "weight scale")
    initfast.assert_healthy(shouting(), x, level="warning", ignore=both)


def test_a_loss_has_gradients_judged():
    sigmoids = mlp(20, 64, nn.Sigmoid)
    with pytest.raises(AssertionError, match="gradient vanishing"):
        initfast.assert_healthy(
            sigmoids,
            torch.randn(32, 64),
            loss=nn.functional.mse_loss,
            targets=torch.zeros(32, 64),
            ignore=["vanishing"],
        )


def test_wrong_words_are_refused():
    with pytest.raises(ValueError, match="level is 'fatal'; expected one of 'error', 'warning'"):
        initfast.assert_healthy(mlp(1), torch.ones(2, 16), level="fatal")
    with pytest.raises(ValueError, match="ignore has 'nosuch', which is no check"):
        initfast.assert_healthy(mlp(1), torch.ones(2, 16), ignore=["nosuch"])
