"""Nets that do odd things in their forward: a profile changes neither their values nor them."""

import copy
import dataclasses
import threading
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from initfast.interception.module_calls import CALL
from initfast.profiling.profile import profile


def perceptron():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh())


class Net(nn.Module):
    """Runs a function of itself and its input, and keeps what that returns."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        self.made = self.function(self, x)
        return self.made


def check(net, x):
    """The profile's forward gives what the plain one does, and the report."""
    with torch.no_grad():
        expected = copy.deepcopy(net)(x)
    report = profile(net, x)
    torch.testing.assert_close(net.made, expected)
    assert not any(CALL in m.__dict__ for m in net.modules())
    return report


@pytest.fixture
def x():
    return torch.randn(4, 8)


class Sevens(TorchFunctionMode):
    """Linear layers and activations make sevens."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        y = func(*args, **(kwargs or {}))
        return y * 0 + 7 if func in (F.linear, F.relu, torch.tanh, torch.relu) else y


# ---- memory that was given away ----


def give_away(t):
    t.untyped_storage().resize_(0)


class Freeing(nn.Module):
    def forward(self, x):
        y = x * 2
        give_away(x)
        return y


def test_an_input_without_memory_is_not_read():
    net = Net(lambda self, x: self.freeing(x * 3), freeing=Freeing())
    layer = profile(net, torch.randn(64, 512))["freeing"]
    assert layer.input is None and layer.post.count == 64 * 512


def test_a_weight_without_memory_is_not_read():
    conv = nn.Conv1d(512, 512, 3)
    full = conv.weight.detach().clone()

    def gather(module, args):
        module.weight.untyped_storage().resize_(full.numel() * 4)
        module.weight.data.copy_(full)

    conv.register_forward_pre_hook(gather)
    conv.register_forward_hook(lambda module, args, output: give_away(module.weight))
    give_away(conv.weight)
    (layer,) = profile(conv, torch.randn(1, 512, 64))
    assert layer.weight is None and layer.post.count > 0


@pytest.mark.parametrize("how", ["free", "resize", "replace"])
def test_buffers_that_lose_their_memory_or_shape_are_put_back(x, how):
    def forward(self, x):
        if how == "free":
            give_away(self.b)
        elif how == "resize":
            self.b.resize_(5)
        else:
            self.b.data = torch.zeros(7)
        return self.norm(x)

    net = Net(forward, norm=nn.BatchNorm1d(8))
    net.register_buffer("b", torch.arange(3000.0))
    profile(net, x)
    assert torch.equal(net.b, torch.arange(3000.0))
    assert net.norm.num_batches_tracked == 0


# ---- who else is watching ----


def test_a_mode_inside_the_forward_sees_every_function(x):
    def forward(self, x):
        with Sevens():
            return self.layers(x)

    check(Net(forward, layers=perceptron()), x)


@pytest.mark.parametrize("style", ["sequential", "loop", "functional"])
def test_a_mode_around_the_profile_sees_every_function(x, style):
    def forward(self, x):
        if style == "sequential":
            return self.layers(x)
        for layer in self.layers if style == "loop" else [self.layers[0], torch.relu]:
            x = layer(x)
        return x

    with Sevens():
        check(Net(forward, layers=perceptron()), x)


def test_a_default_device_is_no_such_mode(x):
    with torch.device("cpu"):
        assert len(profile(perceptron(), x)) == 2


def test_a_profile_inside_a_profile_has_its_layers_to_itself(x):
    reports = []

    def forward(self, x):
        if not reports:
            reports.append(None)
            reports[0] = profile(self, x)
        return self.layers(x)

    net = Net(forward, layers=perceptron())
    outer = profile(net, x)
    assert [layer.name for layer in reports[0]] == ["layers.0", "layers.2"]
    assert "layers.0" in [layer.name for layer in outer]
    assert not any(CALL in m.__dict__ for m in net.modules())


def test_what_another_thread_runs_is_no_layer_of_a_chain(x):
    def forward(self, x):
        thread = threading.Thread(target=torch.no_grad()(partial(self.layers, x)))
        thread.start()
        thread.join()
        return self.layers(x)

    report = profile(Net(forward, layers=perceptron()), x)
    fused = [layer for layer in report if layer.op.startswith("linear +")]
    assert [layer.name for layer in fused] == ["layers.0", "layers.2"]


# ---- modules that change ----


class Doubling(nn.Conv1d):
    def forward(self, x):
        return 2 * super().forward(x)


class Negative(nn.Sequential):
    def forward(self, x):
        return -super().forward(x)


def test_a_class_that_changes_meanwhile(x):
    def forward(self, x):
        self.conv.__class__, self.layers.__class__ = Doubling, Negative
        return self.layers(self.conv(x[:, None])[:, 0])

    check(Net(forward, conv=nn.Conv1d(1, 1, 1), layers=perceptron()), x)


def test_a_class_whose_forward_was_replaced(x, monkeypatch):
    monkeypatch.setattr(nn.Sequential, "forward", lambda self, x: x * 0 + 5)
    check(Net(lambda self, x: self.layers(x), layers=perceptron()), x)


def test_a_forward_that_the_net_gives_a_module_stays(x):
    def double(z):
        return z * 2

    def forward(self, x):
        self.conv.forward = double
        return self.conv(x[:, None])

    net = Net(forward, conv=nn.Conv1d(1, 1, 1))
    profile(net, x)
    assert net.conv.__dict__["forward"] is double
    torch.testing.assert_close(net.made, 2 * x[:, None])


def test_a_child_that_replaces_the_next(x):
    class Replacing(nn.Module):
        def forward(self, x):
            self.parent[0][1] = nn.Tanh()
            return x

    layers = nn.Sequential(Replacing(), nn.ReLU(), nn.Linear(8, 8))
    layers[0].parent = [layers]
    expected = layers[2](torch.tanh(x)).detach()
    torch.testing.assert_close(profile_output(layers, x), expected)


def profile_output(module, x):
    net = Net(lambda self, x: self.module(x), module=module)
    profile(net, x)
    return net.made


# ---- what may not raise ----


@dataclasses.dataclass
class Output:
    y: torch.Tensor
    unset: torch.Tensor = dataclasses.field(init=False)


def itself(y):
    found = {"y": y}
    found["me"] = found
    return found


def tolerant(y):
    try:
        return F.relu(5)
    except TypeError:
        return y


@pytest.mark.parametrize("make", [Output, itself, tolerant])
def test_odd_values_pass_through(x, make):
    class Odd(nn.Module):
        def forward(self, x):
            return make(x * 2)

    report = profile(Net(lambda self, x: (self.odd(x), x)[1], odd=Odd()), x)
    assert report["odd"].post.count == 32


class PlainConv(nn.Conv1d):
    def forward(self, x):
        self.kernel_size = 1
        return F.conv1d(x, self.weight, self.bias)


class PlainTransposed(nn.ConvTranspose1d):
    def forward(self, x):
        self.stride = 1
        return F.conv_transpose1d(x, self.weight, self.bias)


class Uniform(nn.MultiheadAttention):
    def __init__(self):
        super().__init__(8, 2)
        self.out_proj = None

    def forward(self, x):
        return x.mean(0, keepdim=True)


@pytest.mark.parametrize(
    "build", [partial(PlainConv, 4, 4, 1), partial(PlainTransposed, 4, 4, 1), Uniform]
)
def test_subclasses_that_keep_their_attributes_otherwise(x, build):
    assert profile(build(), x)[0].post.count > 0
