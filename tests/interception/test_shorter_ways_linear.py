"""Linear layers: the shorter way does what calling the module in the usual way does."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import Loop, batch, output_of
from torch import nn
from torch.overrides import TorchFunctionMode

from initfast.interception.module_calls import CALL, MISSED
from initfast.interception.shorter_ways import ShorterWays
from initfast.profiling.profile import profile


@pytest.fixture
def shortened(monkeypatch):
    """The results of the layers that went the shorter way."""
    found = []
    plainly = ShorterWays.linear

    def counted(*args):
        z = plainly(*args)
        if z is not MISSED:
            found.append(z)
        return z

    monkeypatch.setattr(ShorterWays, "linear", counted)
    return found


def test_layers_of_a_loop_go_the_shorter_way_and_leave_nothing(shortened):
    net, x = Loop(torch.tanh), batch(4, 12)
    with torch.no_grad():
        expected = net(x)
    output, report = output_of(net, x)
    assert len(shortened) == 5
    torch.testing.assert_close(output, expected)
    assert [layer.name for layer in report] == [f"linears.{i}" for i in range(5)]
    assert all(CALL not in vars(module) for module in net.modules())


class Tripled(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 3


def replaced(net):
    net.linears[1].weight = nn.Parameter(torch.ones(12, 12))


def plain_bias(net):
    del net.linears[1].bias
    net.linears[1].bias = torch.ones(12)


def another_class(net):
    net.linears[1].__class__ = Tripled


def another_forward(net):
    net.linears[1].forward = lambda x: x * 2


def weight_norm(net):
    nn.utils.parametrizations.weight_norm(net.linears[1])


def new_data(net):
    net.linears[1].weight.data = torch.full((12, 12), 0.5)


def new_shape(net):
    net.linears[1].weight.data = torch.ones(12, 12, 1)[..., 0].T


def written(net):
    net.linears[1].weight.zero_()


def hooked(net):
    net.linears[1].register_forward_hook(lambda module, args, output: output + 1)


def hooked_before(net):
    net.linears[1].register_forward_pre_hook(lambda module, args: (args[0] * 2,))


CHANGES = [
    replaced,
    plain_bias,
    another_class,
    another_forward,
    weight_norm,
    new_data,
    new_shape,
    written,
    hooked,
    hooked_before,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("after", [0, 1])
def test_a_module_that_is_changed_while_the_net_runs(change, after):
    class Changing(Loop):
        def forward(self, x):
            for i, linear in enumerate(self.linears):
                x = self.act(linear(x))
                if i == after:
                    change(self)
            return x

    net, x = Changing(torch.tanh), batch(4, 12)
    with torch.no_grad():
        expected = copy.deepcopy(net)(x)
    ours = copy.deepcopy(net)
    output, _ = output_of(ours, x)
    torch.testing.assert_close(output, expected)
    assert ("forward" in vars(ours.linears[1])) == (change is another_forward)
    assert CALL not in vars(ours.linears[1])


class Seen(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def test_a_mode_of_the_net_sees_its_layers():
    seen = Seen()

    net = Loop(torch.tanh)

    def forward(x):
        y = torch.tanh(net.linears[0](x))
        with seen:
            return torch.tanh(net.linears[1](y))

    net.forward = forward
    profile(net, batch(4, 12))
    assert seen.functions.count(F.linear) == seen.functions.count(torch.tanh) == 1


def test_a_replaced_function_is_called(monkeypatch):
    net, x = Loop(torch.tanh), batch(4, 12)
    plainly = F.linear
    monkeypatch.setattr(F, "linear", lambda x, w, b=None: plainly(x, w, b) * 3)
    with torch.no_grad():
        expected = net(x)
    torch.testing.assert_close(output_of(net, x)[0], expected)


def test_gradients_casts_and_transforms_inside_the_loop():
    net = Loop(torch.tanh)
    a, b = net.linears[:2]

    def function(x):
        y = torch.tanh(a(x))
        with torch.autocast("cpu", torch.bfloat16):
            cast = b(y).float()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(b(y).sum(), b.weight)
        doubled = {name: 2 * p for name, p in b.named_parameters()}
        return (
            cast,
            gradient,
            torch.func.functional_call(b, doubled, (y,)),
            torch.func.vmap(b)(y),
            b(input=y),
        )

    net.forward = function
    with torch.no_grad():
        expected = net(batch(4, 12))
    for got, wanted in zip(output_of(net, batch(4, 12))[0], expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_other_threads_take_the_usual_way():
    net, found = Loop(torch.tanh), []

    def forward(x):
        y = torch.tanh(net.linears[0](x))
        thread = threading.Thread(target=lambda: found.append(net.linears[1](y).detach()))
        thread.start()
        thread.join()
        return torch.tanh(net.linears[1](y))

    net.forward = forward
    output, _ = output_of(net, batch(4, 12))
    torch.testing.assert_close(torch.tanh(found[0]), output)


def test_a_layer_that_does_not_fit_is_named():
    net = Loop(torch.tanh)
    net.linears[2] = nn.Linear(11, 12)
    with pytest.raises(RuntimeError) as error:
        profile(net, batch(4, 12))
    assert any("'linears.2'" in note and "[..., 11]" in note for note in error.value.__notes__)


def test_replicas_run_their_own_forwards(shortened):
    """nn.DataParallel makes them of all attributes, and runs each in a thread of its own."""

    class Replicating(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.outputs = nn.Linear(12, 12), []

        def forward(self, x):
            replica = self.linear._replicate_for_data_parallel()
            replica._parameters = {name: 2 * p for name, p in self.linear._parameters.items()}
            run = threading.Thread(target=lambda: self.outputs.append(replica(x).detach()))
            run.start()
            run.join()
            return self.linear(x)

    net, x = Replicating(), batch(4, 12)
    output, _ = output_of(net, x)
    torch.testing.assert_close(net.outputs[0], 2 * output)
    assert len(shortened) == 1
    shortened.clear()
    profile(nn.DataParallel(Loop(torch.tanh)), x)
    assert not shortened
