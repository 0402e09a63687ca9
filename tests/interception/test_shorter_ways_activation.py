"""Activation modules: their shorter way gives the net the same values, at the same places."""

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import batch
from torch import nn

from initfast.interception.function_mode import Fusion
from initfast.nets.activation_calls import TORCHS_FORWARDS, runs_torchs
from initfast.profiling.profile import profile


class Both(nn.Module):
    """Returns a layer's output beside that of the activation after it."""

    def __init__(self, layer, activation):
        super().__init__()
        self.layer, self.activation = layer, activation

    def forward(self, x):
        z = self.layer(x)
        y = self.activation(z)
        return z, y


def seen(net, x):
    """What a net returns while it is profiled, and the operators of the report."""
    found = []
    report = profile(lambda x: found.extend(net(x)), x)
    return found, [layer.op for layer in report]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("build", [lambda: nn.Linear(6, 6), lambda: nn.Conv1d(6, 6, 1)])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU, nn.Hardtanh, nn.SiLU])
def test_in_place_or_not_the_values_are_torchs(build, in_place, activation):
    net, x = Both(build(), activation(inplace=in_place)), batch(4, 6, 6)
    with torch.no_grad():
        expected = net(x)
    (z, y), ops = seen(net, x)
    assert torch.allclose(z, expected[0], atol=1e-6)
    assert torch.allclose(y, expected[1], atol=1e-6)
    assert (z - y).abs().max() == 0 if in_place else (z - y).abs().max() > 0
    assert sum(" + " in op for op in ops) == 1


@pytest.mark.parametrize("build", [lambda: nn.Linear(6, 6), lambda: nn.Conv1d(6, 6, 1)])
def test_a_function_in_the_place_of_torchs_runs(monkeypatch, build):
    net, x = Both(build(), nn.ReLU()), batch(4, 6, 6)
    assert runs_torchs(net.activation)
    monkeypatch.setattr(F, "relu", lambda z, inplace=False: z * 0 + 7)
    assert not runs_torchs(net.activation)
    (_, y), _ = seen(net, x)
    assert y.unique().tolist() == [7]


def test_no_function_of_torchs_is_looked_up_for_it(monkeypatch):
    seen_by_mode = []
    usual = Fusion.__torch_function__
    monkeypatch.setattr(
        Fusion,
        "__torch_function__",
        lambda self, *call: seen_by_mode.append(1) or usual(self, *call),
    )
    net = nn.Sequential(nn.Conv1d(6, 6, 1), nn.ReLU(), nn.BatchNorm1d(6), nn.GELU())
    assert next(layer.op for layer in profile(net, batch(4, 6, 6))) == "Conv1d + relu"
    assert not seen_by_mode


def test_in_a_sequential_it_runs_too(monkeypatch):
    net, x = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh()), batch(4, 6)
    monkeypatch.setattr(F, "relu", lambda z, inplace=False: z * 0 + 7)
    with torch.no_grad():
        expected = net(x)
    found = []
    profile(lambda x: found.append(net(x)), x)
    assert torch.allclose(found[0], expected)


@pytest.mark.parametrize("kind", TORCHS_FORWARDS)
def test_the_function_of_every_module_is_known(kind):
    assert runs_torchs(nn.Linear(2, 2) if kind is nn.Linear else kind())
