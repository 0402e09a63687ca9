"""nn.Sequential: the shorter way does what calling the modules does."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import WIDTH, batch, linear, output_of, same, x_of
from torch import nn

from initfast.interception.module_calls import CALL
from initfast.profiling.profile import profile

ACTIVATION_MODULES = [
    *(nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.ELU(0.5), nn.SELU(), nn.CELU(2.0)),
    *(nn.ReLU6(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(2.0, 1.0)),
    *(nn.Softsign(), nn.Sigmoid(), nn.LogSigmoid(), nn.Tanh(), nn.Hardtanh(-0.5, 0.2)),
    *(nn.Hardtanh(0, 6), nn.Hardsigmoid(), nn.Hardswish(), nn.PReLU(), nn.Softmax(-1)),
]


@pytest.mark.parametrize("act", ACTIVATION_MODULES, ids=repr)
def test_sequential_runs_pairs_as_calling_the_modules_does(act):
    net, x = nn.Sequential(nn.Linear(WIDTH, 9), act, nn.Linear(9, 4, bias=False)), batch(5, WIDTH)
    with torch.no_grad():
        expected = net(x)
    output, report = output_of(net, x)
    torch.testing.assert_close(output, expected)

    def called(x):
        for module in net:
            x = module(x)
        return x

    plainly = profile(called, x)
    assert [
        layer.op for layer in report if "Softmax" not in layer.op and "PReLU" not in layer.op
    ] == [layer.op for layer in plainly]
    assert report.layers[0].post == plainly.layers[0].post
    assert report.layers[-1].post == plainly.layers[-1].post
    assert CALL not in vars(net)


class Offset(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net[0].register_forward_hook(lambda m, a, out: out + 1),
        lambda net: net[0].register_forward_pre_hook(lambda m, a: (a[0] * 2,)),
        lambda net: net[1].register_forward_hook(lambda m, a, out: out + 1),
        lambda net: net[1].register_forward_pre_hook(lambda m, a: (a[0] * 2,)),
        lambda net: setattr(net[0], "forward", lambda x: F.linear(x, net[0].weight) * 3),
        lambda net: setattr(net[1], "forward", lambda z: z.square()),
        lambda net: setattr(net, "forward", lambda x: net[0](x) * 2),
        lambda net: net.__setitem__(0, Offset(WIDTH, WIDTH)),
        lambda net: nn.utils.parametrizations.weight_norm(net[0]),
        lambda net: net.insert(1, nn.Identity()),
        lambda net: net.append(nn.Sequential()),
    ],
)
def test_sequential_with_anything_unusual_calls_its_modules(change):
    net, x = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()), batch(5, WIDTH)
    change(net)
    with torch.no_grad():
        expected = net(x)
    before = sorted(vars(net))
    output, _ = output_of(net, x)
    torch.testing.assert_close(output, expected)
    assert sorted(vars(net)) == before


def test_sequential_under_global_hooks_and_patched_forwards(monkeypatch):
    net, x, seen = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()), batch(5, WIDTH), []
    handle = nn.modules.module.register_module_forward_hook(lambda m, a, out: seen.append(type(m)))
    try:
        profile(net, x)
    finally:
        handle.remove()
    assert seen == [nn.Linear, nn.Tanh, nn.Sequential]
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x * 5)
    torch.testing.assert_close(output_of(net, x)[0], torch.tanh(5 * x))


class Copies(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.net = nn.Sequential(linear(), nn.Tanh(), nn.LayerNorm(7))
        self.how = how

    def forward(self, x):
        self.__dict__["copy"] = self.how(self.net)
        return self.net(x) + self.copy(x)


def reloaded(net):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, reloaded])
def test_a_net_that_is_copied_while_it_runs(how):
    net, x = Copies(how), x_of(4, 5)
    with torch.no_grad():
        expected = net(x)
        report = profile(net, x)
        torch.testing.assert_close(net.copy(x), expected / 2)
    assert report["net.0"].op == "linear + tanh"
    assert "forward" not in vars(net.net)


def test_a_forward_that_replaces_torchs(monkeypatch):
    net, x = nn.Sequential(linear(), nn.ReLU(), linear(7, 7), nn.Tanh()), x_of(4, 5)
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, z: z * 0 + 7)
    same(net, x)
    monkeypatch.undo()
    plainly = F.linear
    monkeypatch.setattr(F, "linear", lambda x, w, b=None: plainly(x, w, b) * 3)
    same(net, x)
