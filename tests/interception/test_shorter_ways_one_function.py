"""Modules of one function: the shorter way measures what the usual way does; nobody can tell."""

import copy
import pickle

import pytest
import torch
from cases.profiles import batch
from torch import nn
from torch.overrides import TorchFunctionMode

from initfast.interception.module_calls import CALL
from initfast.interception.shorter_ways import ShorterWays
from initfast.profiling.profile import profile

IMAGES = batch(2, 4, 8, 8)
NETS = {
    "convolutions": (
        lambda: [nn.Conv2d(4, 6, 3), nn.ReLU(True), nn.ConvTranspose2d(6, 4, 3)],
        IMAGES,
    ),
    "norms": (
        lambda: [nn.BatchNorm2d(4), nn.GELU(), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)],
        IMAGES,
    ),
    "poolings": (
        lambda: [nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), nn.Tanh(), nn.AdaptiveAvgPool2d(2)],
        IMAGES,
    ),
    "activations": (
        lambda: [
            nn.Conv2d(4, 4, 1),
            nn.Hardtanh(-0.5, 0.5, True),
            nn.Tanh(),
            nn.GELU("tanh"),
            nn.Softplus(2.0),
        ],
        IMAGES,
    ),
    "of a linear layer": (lambda: [nn.Linear(8, 8), nn.RMSNorm(8), nn.Linear(8, 8)], IMAGES),
    "of what waits": (lambda: [nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8), nn.ReLU()], IMAGES),
    "integers": (lambda: [nn.Embedding(9, 8), nn.LayerNorm(8)], torch.arange(9)),
    "empty": (lambda: [nn.Conv1d(4, 4, 3), nn.ReLU()], batch(0, 4, 8)),
    "indices": (lambda: [nn.Conv2d(4, 4, 1), nn.MaxPool2d(2, return_indices=True)], IMAGES),
    "float64": (lambda: [nn.Conv2d(4, 4, 1).double(), nn.Sigmoid()], IMAGES.double()),
}


def both(monkeypatch, net, x, **arguments):
    """The reports of a net whose modules go the usual way, and of one whose modules need not."""
    with monkeypatch.context() as patched:
        patched.setattr(ShorterWays, "of", lambda self, module: None)
        usual = profile(copy.deepcopy(net), x, **arguments)
    shorter = profile(net, x, **arguments)
    return [{**report.to_dict(), "run": None} for report in (usual, shorter)]  # not of one second


@pytest.mark.parametrize("case", NETS)
@pytest.mark.parametrize("arguments", [{}, {"loss": lambda y: y.float().square().sum()}])
def test_both_ways_measure_the_same(monkeypatch, case, arguments):
    build, x = NETS[case]
    net = nn.Sequential(*build())
    if case == "indices" and arguments:
        arguments = {"loss": lambda output: output[0].sum()}
    usual, shorter = both(monkeypatch, net, x, **arguments)
    assert str(shorter) == str(usual)
    assert not any(CALL in m.__dict__ for m in net.modules())


def test_autocast_and_training_are_as_usual(monkeypatch):
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.LayerNorm(6))
    with torch.autocast("cpu", torch.bfloat16):
        usual, shorter = both(monkeypatch, net, IMAGES)
    assert str(shorter) == str(usual) and "bfloat16" in str(shorter)
    assert net[1].num_batches_tracked == 0


class Counting(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_another_function_mode_sees_what_is_called():
    with Counting() as mode:
        profile(nn.Sequential(nn.Conv2d(4, 4, 1), nn.LayerNorm(8)), IMAGES)
    assert torch.conv2d in mode.seen and nn.functional.layer_norm in mode.seen


@pytest.mark.parametrize("register", ["forward", "pre", "global", "own"])
def test_what_the_user_put_on_a_module_runs_and_stays(register):
    class Doubled(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x) * 2

    net, handle = nn.Sequential(nn.LayerNorm(8)), None
    if register == "forward":
        handle = net[0].register_forward_hook(lambda m, args, y: y * 2)
    elif register == "pre":
        net[0].bias.data += 1
        handle = net[0].register_forward_pre_hook(lambda m, args: args[0] * 0)
    elif register == "global":
        handle = nn.modules.module.register_module_forward_hook(lambda m, a, y: y * 2)
    else:
        net[0] = Doubled(8)
    try:
        expected = net(IMAGES)
        report = profile(net, IMAGES)
    finally:
        if handle is not None:
            handle.remove()
    assert report.layers[-1].std == pytest.approx(expected.std().item(), rel=1e-5, abs=1e-9)


def test_a_copy_that_the_net_makes_is_an_ordinary_module():
    class Copying(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            self.copies = [copy.deepcopy(self.norm), pickle.loads(pickle.dumps(self.norm))]
            return self.copies[1](self.copies[0](self.norm(x)))

    net = Copying()
    report = profile(net, IMAGES)
    assert [layer.name for layer in report] == ["norm", ""]
    for norm in net.copies:
        norm.weight.data.fill_(3)  # its own, not the original's
        assert norm(IMAGES).detach().std().item() == pytest.approx(3, rel=1e-2)


def test_a_module_that_raises_is_named_and_restored():
    net = nn.Sequential(nn.LayerNorm(8), nn.Conv2d(3, 4, 1))
    with pytest.raises(RuntimeError) as raised:
        profile(net, IMAGES)
    assert "'1'" in str(getattr(raised.value, "__notes__", raised.value.args))
    assert not any(CALL in m.__dict__ for m in net)
