"""profile() of functions, partials, methods and objects: the modules that they hold are found."""

from functools import partial

import pytest
import torch
from cases.profiles import batch
from cases.unchanged import equal, notes, state
from ranks.merge import close
from torch import nn

from initfast.nets.callables import NOTE
from initfast.profiling.profile import profile


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16, 5), nn.Tanh()),
    )


class Trainer:
    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)

    def step(self, x):
        return self(x)


class Agent:
    def __init__(self, net):
        self.policy, self.steps = net, 0


class Run:
    def __init__(self, net):
        self.agent = Agent(net)

    def step(self, x):
        return self.agent.policy(x)


NET = convolutions()


def of_variable_with_attributes(net):
    agent = Agent(net)
    return lambda x: agent.policy(x)


def of_default(net):
    def run(x, net=net):
        return net(x)

    return run


def of_helper(net):
    def helper(x):
        return net(x)

    return lambda x: next(helper(y) for y in (x,))


def of_list(net):
    layers = list(net)

    def run(x):
        for layer in layers:
            x = layer(x)
        return x

    return run


@pytest.mark.parametrize(
    "make, prefix",
    [
        (lambda net: lambda x: net(x), "net."),
        (lambda net: partial(lambda model, x: model(x), net), "args.0."),
        (lambda net: partial(lambda x, net: net(x), net=net), "net."),
        (of_default, "net."),
        (of_helper, "net."),
        (of_list, "layers."),
        (Trainer, "net."),
        (lambda net: Trainer(net).step, "net."),
        (of_variable_with_attributes, "policy."),
        (lambda net: Run(net).step, "policy."),
        (None, "NET."),
    ],
)
@pytest.mark.parametrize("loss", [None, torch.sum])
def test_every_output_is_measured_and_buffers_are_put_back(make, prefix, loss):
    net, x = NET, batch(2, 3, 6, 6)
    expected, before = profile(net, x, loss=loss), state(net)
    report = profile(make(net) if make else lambda x: next(NET(y) for y in (x,)), x, loss=loss)
    plain = [layer for layer in report if layer.name != prefix[:-1]]
    assert [a.name for a in plain] == [prefix + b.name for b in expected]
    for a, b in zip(plain, expected, strict=True):
        assert (a.op, a.type) == (b.op, b.type)
        assert close(a.post, b.post, 1e-5) and close(a.pre, b.pre, 1e-5)
        assert (a.grad is None) == (b.grad is None) == (loss is None)
        assert close(a.weight_grad, b.weight_grad, 1e-5)
    assert equal(state(net), before)
    assert report.notes == [NOTE] and expected.notes == []


def test_no_code_is_advised_that_a_function_could_not_run():
    net = nn.Sequential(*[m for _ in range(20) for m in (nn.Linear(32, 32), nn.ReLU())])
    expected, report = profile(net, batch(9, 32)), profile(lambda x: net(x), batch(9, 32))
    assert [f.rule for f in report.findings] == [f.rule for f in expected.findings]
    assert any(f.code for f in expected.findings) and not any(f.code for f in report.findings)


def test_a_function_without_modules_is_as_it_was():
    report = profile(lambda x: torch.tanh(x).relu(), batch(2, 3))
    assert [layer.name for layer in report] == ["0", "1"] and report.notes == []


def test_an_error_names_the_module_in_the_function():
    net = convolutions()
    with pytest.raises(RuntimeError) as raised:
        profile(lambda x: net(x), batch(2, 5, 6, 6))
    assert "raised in layer 'net.0'" in notes(raised.value)


def test_two_nets_of_one_name_and_a_part_of_one():
    def other(net):
        return lambda x: net(x)

    net, first = nn.Sequential(nn.Linear(4, 4)), other(nn.Sequential(nn.Linear(4, 4)))
    head = net[0]
    report = profile(lambda x: head(net(first(x))), batch(2, 4))
    assert len(report) == 3 and len({layer.name for layer in report}) == 2
    assert all(layer.type == "Linear" for layer in report)


def test_a_gradient_reaches_every_weight_of_a_function_whose_input_needs_one_too():
    net, x = nn.Linear(4, 4), batch(2, 4).requires_grad_()
    assert profile(lambda x: net(x), x, loss=torch.sum).layers[0].weight_grad is not None


# ---- outputs without tensors ----


class Gives(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.layer, self.make = nn.Linear(4, 4), make

    def forward(self, x):
        return self.make(self.layer(x))


def test_an_output_that_holds_no_tensors_is_listed():
    net = Gives(lambda h: {"dist": torch.distributions.Normal(h, h.exp()), "h": h, "n": 3})
    report = profile(nn.Sequential(net), batch(2, 4))
    assert ("0", "Gives['dist']", "no tensors found in a Normal") in report.skipped
    assert report["0"].post == report["0.layer"].post
    assert profile(Gives(lambda h: (None, "text", [1.0])), batch(2, 4)).skipped == []


def test_a_generator_is_said_to_be_unmeasured():
    def steps(h):
        yield torch.tanh(h)

    report = profile(Gives(steps), batch(2, 4))
    assert "generator" in report.notes[0] and "generator" in report.skipped[0].reason
    assert "generator" in profile(steps, batch(2, 4)).notes[0]
