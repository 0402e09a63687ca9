"""profile(loss=): the gradients are autograd's."""

import pytest
import torch
from cases.profiles import WIDTH, batch
from cases.unchanged import equal, state
from nets.with_gradients import NETS, assert_close, assert_true, loss_of, make, truth_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from initfast.profiling.profile import profile


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_autograd_s(name):
    net, x = make(name), batch(6, WIDTH).double()
    truth = truth_of(net, x)
    report = profile(net, x, loss=loss_of)
    assert_true(report, net, truth)
    measured = sum(layer.weight_grad is not None for layer in report)
    expected = {"sequential": 5, "convolutional": 3, "loop": 4, "residual": 4, "functional": 2}
    assert measured == expected.get(name, 0)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    net, x = make("sequential", dtype), batch(64, WIDTH).to(dtype)
    report = profile(net, x, loss=loss_of)
    at_points, weights = truth_of(net.double(), x.double())
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for layer, grad in zip(report, at_points, strict=True):
        assert layer.grad.std == pytest.approx(grad.std().item(), rel=tolerance)
        expected = weights[f"{layer.name}.weight"].std().item()
        assert layer.weight_grad.std == pytest.approx(expected, rel=tolerance)


def test_frozen_layers_pass_gradients_on_and_have_none():
    net, x = make("sequential"), batch(6, WIDTH).double()
    net[0].requires_grad_(False)
    net[4].requires_grad_(False)
    truth = truth_of(net, x)
    report = profile(net, x, loss=loss_of)
    assert_true(report, net, truth)
    assert report["0"].grad is None and report["4"].grad is not None
    flags = [p.requires_grad for p in net.parameters()]
    assert flags == [False] * 2 + [True] * 2 + [False] * 2 + [True] * 4


def test_an_input_that_requires_a_gradient():
    net, x = make("sequential").requires_grad_(False), batch(6, WIDTH).double().requires_grad_()
    before = torch.ones_like(x)
    x.grad = before
    assert_true(profile(net, x, loss=loss_of), net, truth_of(net, x))
    assert x.grad is before and bool((before == 1).all())
    # One that is the middle of a greater graph: that graph stays whole.
    leaf = batch(6, WIDTH).double().requires_grad_()
    middle = leaf.tanh()
    assert profile(net, middle, loss=loss_of)[0].grad is not None
    middle.sum().backward()


def test_a_plain_callable():
    net, x = make("sequential"), batch(6, WIDTH).double()
    report = profile(lambda t: net(t), x, loss=loss_of)
    _, weights = truth_of(net, x)
    assert [layer.grad is not None for layer in report] == [True] * 5
    assert_close(report[1].weight_grad, weights["2.weight"])


def test_autocast():
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make("sequential", torch.float32)

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.body(x).float()

    net, x = Cast(), batch(32, WIDTH)
    report = profile(net, x, loss=loss_of)
    loss_of(net(x)).backward()
    for layer in report.select("body.?"):
        weight = net.get_submodule(layer.name).weight
        assert_close(layer.weight_grad, weight.grad, 1e-3)
    assert report["body.2"].dtype == torch.bfloat16 and report["body.2"].grad.count == 32 * WIDTH


def test_targets():
    net, x = make("sequential"), batch(6, WIDTH).double()
    criterion, targets = nn.CrossEntropyLoss(), torch.arange(6) % 3
    report = profile(net, x, loss=criterion, targets=targets)
    assert_true(report, net, truth_of(net, x, lambda y: criterion(y, targets)))


def test_an_empty_batch():
    net = make("sequential")
    report = profile(net, torch.empty(0, WIDTH).double(), loss=lambda y: y.sum())
    assert [layer.grad.count for layer in report] == [0] * 5
    assert report[0].weight_grad.std == 0


class Changed(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDTH, WIDTH), act)

    def forward(self, x):
        return self.body(x).mul_(3)


@pytest.mark.parametrize("act", [nn.SiLU(), nn.LeakyReLU(), nn.ReLU6()], ids=repr)
def test_a_layer_changed_in_place_afterwards(act):
    net, x = Changed(act).double(), batch(6, WIDTH).double()
    report = profile(net, x, loss=lambda y: y.sum())
    assert report["body.0"].grad.mean == 3.0 and report["body.0"].grad.std == 0


@pytest.mark.parametrize("act", [nn.Sigmoid(), nn.Tanh(), nn.ReLU()], ids=repr)
def test_a_result_that_the_backward_needs_changed_in_place(act):
    net, x = Changed(act).double(), batch(6, WIDTH).double()
    changed = "modified by an inplace operation"
    with pytest.raises(RuntimeError, match=changed):
        net(x).sum().backward()
    with pytest.raises(RuntimeError, match=changed):
        profile(net, x, loss=lambda y: y.sum())


# ---- graphs within the forward ----


@pytest.mark.parametrize("body", ["sequential", "loop"])
def test_second_derivatives_in_the_forward(body):
    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make(body)

        def forward(self, x):
            x = x.detach().requires_grad_()
            y = self.body(x)
            (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
            return y.sum() + slope.square().sum()

    net, x = Slope(), batch(6, WIDTH).double()
    parameters = [p for p in net.parameters() if p.dim() == 2]
    truth = torch.autograd.grad(net(x), parameters)
    report = profile(net, x, loss=lambda y: y)
    assert all(p.grad is None for p in parameters)
    weights = [layer.weight_grad for layer in report if layer.weight_grad is not None]
    for moments, grad in zip(weights, truth, strict=True):
        assert_close(moments, grad)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpoints_are_recorded_once(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(WIDTH, WIDTH)
            self.body = make("sequential")
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            x = checkpoint(self.body, self.first(x).relu(), use_reentrant=reentrant)
            return self.norm(x)

    net, x = Checkpointed().double(), batch(6, WIDTH).double()
    before = state(net)
    report = profile(net, x, loss=loss_of)
    assert equal(state(net), before)
    assert [layer.name for layer in report][:3] == ["first", "body.0", "body.2"]
    assert len(report) == 7
    loss_of(net(x)).backward()
    for layer in report:
        if layer.name != "norm":
            assert_close(layer.weight_grad, net.get_submodule(layer.name).weight.grad)
            assert layer.grad is not None


# ---- the scaler ----


def test_a_scaler_s_scale_is_taken_out():
    net, x = make("sequential"), batch(6, WIDTH).double()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    truth = truth_of(net, x)
    assert_true(profile(net, x, loss=loss_of, scaler=scaler), net, truth)
    assert scaler.get_scale() == 1024.0
    off = torch.amp.GradScaler("cpu", enabled=False)
    assert_true(profile(net, x, loss=loss_of, scaler=off), net, truth)


def test_gradients_that_overflow_when_scaled_are_non_finite():
    net = nn.Linear(4, 4).half()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    x = torch.ones(2, 4, dtype=torch.half)
    report = profile(net, x, loss=lambda y: (y * 4).sum().float(), scaler=scaler)
    assert report[0].grad.nonfinite == 8
    assert profile(net, x, loss=lambda y: (y * 4).sum().float())[0].grad.mean == 4.0
