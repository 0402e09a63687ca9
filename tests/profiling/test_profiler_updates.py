"""Profiler(optimizer=): what the optimiser's steps do to the parameters."""

import json

import pytest
import torch
from torch import nn

import initfast
from initfast import Profiler
from initfast.profiling.updates import Updates
from initfast.report.report import Report


def rms_of(values):
    return values.double().square().mean().sqrt().item()


def test_a_step_of_several_calls_counts_once():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    expected = {}
    with Profiler(net, every=4, optimizer=optimizer) as p:  # every second step of two calls
        for step in range(4):
            for x in torch.randn(2, 16, 4):
                (net(x).square().mean() / 2).backward()
            before = {n: (v.detach().clone(), v.grad.clone()) for n, v in net.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()
            for name, parameter in net.named_parameters() if step == 2 else ():
                old, grad = before[name]
                change = rms_of(parameter.detach() - old) / rms_of(old)
                expected[name] = pytest.approx((change, rms_of(grad)), rel=1e-12)
    report = p.report()
    assert report.outcome.updates == expected and len(expected) == 4
    ratio = report.scalars()["initfast/updates/2.weight/to_weight"]
    assert ratio == report.outcome.updates["2.weight"].to_weight
    again = Report.from_dict(json.loads(report.to_json()))
    assert again.outcome.updates == report.outcome.updates
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="optimizer is a float; expected a torch"):
        initfast.Profiler(nn.Linear(2, 2), optimizer=0.1)


def test_a_closure_calls_the_net_within_the_step():
    net = nn.Linear(8, 8)
    optimizer, seen = torch.optim.SGD(net.parameters(), 0.1), []

    def closure():
        optimizer.zero_grad()
        loss = net(torch.ones(4, 8)).square().sum()
        loss.backward()
        seen.append(rms_of(0.1 * net.weight.grad) / rms_of(net.weight.detach()))
        return loss

    with initfast.Profiler(net, optimizer=optimizer) as p:
        optimizer.step(closure)
    found = p.report().outcome.updates
    assert found.keys() == {"weight", "bias"}
    assert found["weight"].to_weight == pytest.approx(seen[0], rel=1e-5)


def test_a_closure_whose_call_is_not_measured_costs_no_copy_of_the_weights(monkeypatch):
    net, kept = nn.Linear(8, 8), []
    optimizer, before = torch.optim.SGD(net.parameters(), 0.1), Updates.before

    def counted(self):
        kept.append(1)
        before(self)

    monkeypatch.setattr(Updates, "before", counted)
    with initfast.Profiler(net, every=3, optimizer=optimizer):
        for _ in range(6):
            optimizer.step(lambda: net(torch.ones(2, 8)).sum().backward())
    assert len(kept) == 2


def test_complex_parameters_are_measured_by_their_magnitudes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.turn = nn.Parameter(torch.tensor([3.0 + 4.0j]))

        def forward(self, x):
            return (x * self.turn).abs().sum()

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with initfast.Profiler(net, optimizer=optimizer) as p:
        net(torch.ones(2)).backward()
        optimizer.step()
    assert p.report().outcome.updates["turn"].to_weight == pytest.approx(0.2 / 5)


def test_lr_tells_what_plain_gradient_descent_would_change():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.GRU(4, 6), Output(), nn.Linear(6, 2)), torch.randn(5, 3, 4)
    report = initfast.profile(net, x, loss=lambda y: y.square().mean(), lr=0.5)
    net(x).square().mean().backward()
    names = ["2.weight", "0.weight_ih_l0", "0.weight_hh_l0"]
    for name in names:
        weight = net.get_parameter(name)
        expected = rms_of(0.5 * weight.grad) / rms_of(weight.detach()), rms_of(weight.grad)
        assert report.outcome.updates[name] == pytest.approx(expected, rel=1e-5)
    assert set(report.outcome.updates) == set(names)
    with initfast.Profiler(net, lr=0.5) as p:
        net(x).square().mean().backward()
    ratio = p.report().scalars()["initfast/updates/2.weight/to_weight"]
    assert ratio == pytest.approx(report.outcome.updates["2.weight"].to_weight, rel=1e-5)


class Output(nn.Module):
    def forward(self, found):
        return found[0][-1]


@pytest.mark.parametrize(
    "lr, error, says",
    [("1", TypeError, "str"), (0, ValueError, "lr is 0"), (0.1, TypeError, "without a loss")],
)
def test_a_learning_rate_is_a_positive_number_and_needs_a_backward(lr, error, says):
    with pytest.raises(error, match=says):
        initfast.profile(nn.Linear(2, 2), torch.ones(1, 2), lr=lr)


def test_lr_and_an_optimizer_are_one_too_many():
    net = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="both given"):
        initfast.Profiler(net, lr=0.1, optimizer=torch.optim.SGD(net.parameters(), 0.1))
