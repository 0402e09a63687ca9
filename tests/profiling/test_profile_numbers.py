"""profile(): what a report says of dead units, gain and the first non-finite value."""

import math

import pytest
import torch
from cases.profiles import WIDTH, Loop, Returns, batch, linear, same, x_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from initfast.profiling.profile import profile


def test_dead_units():
    net = nn.Sequential(nn.Linear(WIDTH, 10), nn.ReLU(), nn.Linear(10, 10), nn.Sigmoid())
    with torch.no_grad():
        net[0].bias[:4] = -100
    report = profile(net, batch(16, WIDTH))
    with torch.no_grad():
        dead = (net[:2](batch(16, WIDTH)) == 0).all(0).sum().item()
    assert report.layers[0].dead_units == dead >= 4
    assert report.layers[1].dead_units == 0


def test_gain_knows_changes_of_the_input():
    linear = nn.Linear(WIDTH, WIDTH)

    def net(x):
        y = torch.tanh(linear(x))
        y.mul_(4)
        return linear(y)

    report = profile(net, batch(16, WIDTH))
    assert report.layers[1].input.std == pytest.approx(4 * report.layers[0].std, rel=1e-6)
    constant = profile(linear, torch.ones(3, WIDTH))
    assert constant.layers[0].gain == math.inf


def exploding(depth=60, width=64):
    net = nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(depth)])
    for layer in net:
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(2))
    return net


def first_bad(net, x):
    with torch.no_grad():
        for i, linear in enumerate(net):
            x = linear(x)
            if not x.isfinite().all():
                return i
    return None


def test_first_nonfinite_names_the_layer():
    net, x = exploding(), batch(16, 64)
    expected = first_bad(net, x)
    report = profile(net, x)
    assert expected is not None and report.first_nonfinite is report.layers[expected]
    assert report.first_nonfinite.name == str(expected)
    assert len(report) == 60
    assert profile(nn.Linear(3, 3), batch(2, 3)).first_nonfinite is None


def test_first_nonfinite_behind_a_squashing_activation():
    linear = nn.Linear(4, 4)
    nn.init.constant_(linear.weight, 3e38)
    report = profile(nn.Sequential(linear, nn.Tanh()), torch.ones(2, 4))
    assert report.layers[0].nonfinite == 0
    assert report.layers[0].pre.nonfinite == 8
    assert report.first_nonfinite is report.layers[0]


def test_stop_at_nonfinite():
    net, x = exploding(), batch(16, 64)
    expected = first_bad(net, x)
    ran = []
    net[-1].register_forward_hook(lambda *_: ran.append(True))
    report = profile(net, x, stop_at_nonfinite=True)
    assert len(report) == expected + 1
    assert report.first_nonfinite is report.layers[-1]
    assert not ran
    assert len(profile(net[:3], x, stop_at_nonfinite=True)) == 3


@pytest.mark.parametrize("caught", [Exception, BaseException])
def test_stop_inside_a_module_that_catches(caught):
    class Catching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = exploding()

        def forward(self, x):
            try:
                return self.inner(x)
            except caught:
                return self.inner[0](x)

    net, x = Catching(), batch(16, 64)
    report = profile(net, x, stop_at_nonfinite=True)
    assert len(report) == first_bad(net.inner, x) + 1


def test_stop_in_another_modules_output_and_in_the_last_linear():
    net = nn.Sequential(Returns(lambda x: x / 0), nn.Linear(4, 4))
    assert [layer.op for layer in profile(net, batch(2, 4), stop_at_nonfinite=True)] == ["Returns"]
    linear = nn.Linear(4, 4)
    nn.init.constant_(linear.bias, math.nan)
    assert profile(linear, batch(2, 4), stop_at_nonfinite=True).first_nonfinite.op == "linear"


class Counting(TorchDispatchMode):
    """Counts what waits for the device."""

    def __init__(self):
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket._qualified_op_name
        self.waits += name in ("aten::_local_scalar_dense", "aten::item", "aten::nonzero")
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device():
    net, x = Loop(torch.tanh), batch(16, WIDTH)
    with Counting() as counting:
        profile(net, x)
    assert counting.waits == 0
    with Counting() as counting:
        x.sum().item()
    assert counting.waits == 1  # so that the zero above means something
    with torch.profiler.profile() as recorded:
        profile(net, x)
    assert not [
        e for e in recorded.events() if e.name in ("aten::item", "aten::_local_scalar_dense")
    ]


def test_units_of_a_linear_layer_after_a_convolution():
    conv, head = nn.Conv2d(3, 8, 1), nn.Linear(8, 6)
    report = same(lambda x: torch.relu(head(conv(x).permute(0, 2, 3, 1)) * 2), x_of(2, 3, 5, 4))
    assert report.layers[-1].units == 6


def test_no_unit_of_an_empty_batch_is_dead():
    report = profile(nn.Sequential(linear(), nn.ReLU()), x_of(0, 5))
    assert report[0].dead_units is None
