"""A weight's gradient is not written down where nobody can see it, and is right everywhere."""

import pytest
import torch
from cases.profiles import WIDTH, batch
from nets.with_gradients import assert_close, loss_of, make
from torch import nn

from initfast.profiling.profile import profile
from initfast.recording import linear_act_chain


@pytest.fixture
def wanted(monkeypatch):
    """What the operator is asked of each weight, call by call: 1 moments, 2 the gradient too."""
    calls, operator = [], linear_act_chain.CHAIN_BACKWARD

    def spy(*arguments):
        calls.append(list(arguments[-2]))
        return operator(*arguments)

    monkeypatch.setattr(linear_act_chain, "CHAIN_BACKWARD", spy)
    return calls


def check(net, x, loss=loss_of):
    """The report's gradients of weights are those of torch alone."""
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    truth = torch.autograd.grad(loss(net(x)), list(parameters.values()), allow_unused=True)
    truth = dict(zip(parameters, truth, strict=True))
    report = profile(net, x, loss=loss)
    for layer in report:
        expected = truth.get(f"{layer.name}.weight")
        if expected is not None:
            assert_close(layer.weight_grad, expected)
    return report


def test_of_a_net_that_nobody_watches(wanted):
    check(make("sequential"), batch(6, WIDTH).double())
    assert wanted == [[1] * 4]


def test_of_a_chain_that_is_the_last_to_run(wanted):
    norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), norm, make("sequential")[:2]).double()
    report = check(net, batch(6, WIDTH).double())
    assert wanted == [[1]] and all(layer.grad is not None for layer in report)


def test_a_hook_of_the_user_s_sees_its_gradient(wanted):
    net, x, seen = make("sequential"), batch(6, WIDTH).double(), []
    handle = net[2].weight.register_hook(seen.append)
    check(net, x)
    assert wanted == [[1, 2, 1, 1]]
    assert len(seen) == 2 and torch.allclose(*seen)  # torch's and the profile's
    handle.remove()
    net[2].weight.register_hook(lambda grad: 3 * grad)
    check(net, x)


def test_a_loss_that_uses_a_weight_adds_to_its_gradient(wanted):
    net = make("sequential")

    def loss(y):
        return loss_of(y) + net[0].weight.square().sum() + (y.sum() * net[4].weight).sum()

    check(net, batch(6, WIDTH).double(), loss)
    assert wanted == [[2, 1, 2, 1]]


def test_a_weight_used_twice(wanted):
    tied = make("sequential")
    tied[4].weight = tied[0].weight
    x = batch(6, WIDTH).double()
    (truth,) = torch.autograd.grad(loss_of(tied(x)), tied[0].weight)
    report = profile(tied, x, loss=loss_of)
    assert wanted == [[2, 1, 2, 1]]
    assert_close(report[0].weight_grad, truth)
    assert_close(report[2].weight_grad, truth)
    shared = nn.Linear(WIDTH, WIDTH).double()
    wanted.clear()
    check(nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh()), x)
    check(nn.ModuleList([shared])[0], x)
    assert wanted == [[2, 2]]


def test_a_use_that_does_not_reach_the_loss(wanted):
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make("sequential")[:2]

        def forward(self, x):
            self.body(x)
            return torch.nn.functional.linear(x, self.body[0].weight)

    net, x = Dropped(), batch(6, WIDTH).double()
    (truth,) = torch.autograd.grad(loss_of(net(x)), net.body[0].weight)
    report = profile(net, x, loss=loss_of)
    assert wanted == []
    assert_close(report[0].weight_grad, truth)


def test_a_gradient_asked_for_in_the_forward_or_in_a_hook_is_there(wanted):
    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make("sequential")
            self.found = []

        def ask(self, y):
            with torch.enable_grad():
                total = y.sum()
            (grad,) = torch.autograd.grad(total, self.body[0].weight, retain_graph=True)
            self.found.append(grad)

        def forward(self, x):
            y = self.body(x)
            self.ask(y)
            after = y * 1
            after.register_hook(lambda grad: self.ask(y))
            return after

    net, x = Asking(), batch(6, WIDTH).double()
    check(net, x)
    assert wanted == [[2] * 4, [2] * 4, [1] * 4]
    assert len(net.found) == 4
    assert all(torch.allclose(grad, net.found[0]) for grad in net.found)


def test_frozen_layers_before_others_and_between(wanted):
    net, x = make("sequential"), batch(6, WIDTH).double()
    net[0].requires_grad_(False)
    net[4].weight.requires_grad_(False)
    report = check(net, x)
    assert wanted == [[1, 0, 1]]
    assert [layer.grad is None for layer in report] == [True] + [False] * 4
    assert [layer.weight_grad is None for layer in report] == [True, False, True, False, False]


def test_where_anomalies_are_looked_for_torch_s_own_layers_run(wanted):
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        check(make("sequential"), batch(6, WIDTH).double())
    assert wanted == []


def test_a_gradient_of_another_kind_goes_by_torch_s_own_layers(wanted):
    class Batched(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make("sequential")
            self.found = []

        def forward(self, x):
            y = self.body(x)
            ways = torch.eye(3, dtype=y.dtype)[:, None].expand(3, *y.shape)
            self.found += torch.autograd.grad(
                y, self.body[0].weight, ways, retain_graph=True, is_grads_batched=True
            )
            return y

    net = Batched()
    check(net, batch(6, WIDTH).double())
    assert wanted == [[1] * 4] and torch.allclose(*net.found)


def tied():
    linear = nn.Linear(WIDTH, WIDTH)
    return nn.Sequential(linear, nn.Tanh(), linear, nn.Tanh())


def repeated():
    block = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())
    return nn.Sequential(block, block)


@pytest.mark.parametrize("kind", [tied, repeated, lambda: make("sequential")])
def test_a_loss_of_a_gradient(kind):
    """Gradients with derivatives of their own are each operator's share, counted once."""
    net, found = kind().double(), []
    x = batch(6, WIDTH).double().requires_grad_()

    def loss(y):
        first = next(net.parameters())
        (grad,) = torch.autograd.grad(loss_of(y), first, create_graph=True)
        found.append(grad.detach())
        return loss_of(y) + grad.square().sum()

    check(net, x, loss)
    assert len(found) == 2 and torch.allclose(*found)  # torch's and the profile's


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_outputs_have_what_a_loss_of_a_gradient_brings_them(share):
    """As where torch's own layers run: of a penalty alone, and beside an ordinary loss."""

    class Loop(nn.Sequential):
        def forward(self, x):
            for module in self:
                x = module(x)
            return x

    x = batch(6, WIDTH).double().requires_grad_()

    def loss(y):
        (grad,) = torch.autograd.grad(loss_of(y), x, create_graph=True)
        return share * loss_of(y) + (grad.norm(dim=1) - 1).square().mean()

    net = make("sequential")
    for one, other in zip(check(net, x, loss), check(Loop(*net), x, loss), strict=True):
        assert (one.grad is None) == (other.grad is None)
        for name in ("count", "mean", "m2") if one.grad else ():
            ours, torchs = getattr(one.grad, name), getattr(other.grad, name)
            assert ours == pytest.approx(torchs, rel=1e-8, abs=1e-12)


def test_gradients_that_the_kernels_do_not_take():
    """A hook that returns a negative view: torch's operators give what the kernels would have."""

    def loss(y):
        y.register_hook(lambda grad: torch._neg_view(-grad))
        return loss_of(y)

    report = check(make("sequential")[:-1], batch(6, WIDTH).double(), loss)
    assert all(layer.weight_grad is not None for layer in report if layer.weight)
