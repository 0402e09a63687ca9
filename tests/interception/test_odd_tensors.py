"""Nets whose tensors are no plain dense ones, or get their graph from a function of the user's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import initfast
from initfast.ops import dispatch
from initfast.profiling.profile import profile
from initfast.stats.moments import Moments


def reasons(report):
    return {skipped.name: skipped.reason for skipped in report.skipped}


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_listed(layout):
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 4)

        def forward(self, *rows):
            return F.relu(
                self.linear(self.norm(torch.nested.nested_tensor([*rows], layout=layout)))
            )

    report = profile(Nested(), (torch.randn(3, 8), torch.randn(5, 8)))
    assert reasons(report).keys() >= {"", "norm"}


def test_what_runs_inside_a_transform_is_listed():
    class Jacobian(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.LayerNorm(4), nn.Tanh())

        def forward(self, x):
            return torch.func.vmap(torch.func.jacrev(self.layers))(x)

    report = profile(Jacobian(), torch.randn(5, 4))
    assert [layer.name for layer in report] == [""]
    assert "vmap" in reasons(report)["layers"] and "vmap" in reasons(report)["layers.0"]


class Straight(torch.autograd.Function):
    """A linear layer with a backward of its own."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.T @ x


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.own, self.last = (nn.Linear(8, 8, bias=False) for _ in range(3))

    def forward(self, x):
        with torch.enable_grad():  # else the graph is never made without a loss
            y = Straight.apply(torch.tanh(self.first(x)), self.own.weight)
            self.graph = y.grad_fn
            return self.last(y)


def test_a_function_with_its_own_backward_keeps_its_graph():
    net, x = Own(), torch.randn(5, 8)
    net(x).square().mean().backward()
    truth = {name: Moments.of(p.grad) for name, p in net.named_parameters()}
    report = profile(net, x, loss=lambda y: y.square().mean())
    assert [layer.parameter for layer in report] == list(truth)
    for layer in report:
        assert layer.weight_grad.rms == pytest.approx(truth[layer.parameter].rms, rel=1e-5)
    profile(net, x)
    assert net.graph is not None


def test_the_gradient_at_a_sparse_embedding():
    bag = nn.EmbeddingBag(20, 6, mode="sum", sparse=True)
    x = torch.tensor([[1, 2], [2, 5]])
    bag(x).square().sum().backward()
    (layer,) = profile(bag, x, loss=lambda y: y.square().sum())
    assert layer.weight_grad.std == pytest.approx(Moments.of(bag.weight.grad.to_dense()).std)
    assert layer.weight_grad.zero == 17 * 6


def test_batches_without_samples_make_a_report():
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    with initfast.Profiler(net) as p:
        for _ in range(2):
            net(torch.empty(0, 8))
    assert p.report()[0].post.count == 0 and str(p.report())


class Recomputed(torch.autograd.Function):
    """Runs a module without a graph, and again with one in a backward within the backward."""

    @staticmethod
    def forward(ctx, x, module):
        ctx.module = module
        ctx.save_for_backward(x)
        return module(x)

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(ctx.module(x), grad)
        return x.grad, None


class Reversible(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 2)
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    def forward(self, x):
        return self.last(Recomputed.apply(self.first(x), self.inner))


@pytest.mark.parametrize("call", [lambda net: net, lambda net: lambda x: net(x)])
def test_a_backward_within_the_backward_leaves_no_gradients(call):
    net, x = Reversible(), torch.randn(5, 8)
    net(x).square().mean().backward()
    truth = {f"{name}.weight": Moments.of(m.weight.grad) for name, m in linears(net)}
    net.inner[0].weight.grad = kept = torch.ones(8, 8)
    net.inner[0].bias.grad = None
    report = profile(call(net), x, loss=lambda y: y.square().mean())
    assert net.inner[0].weight.grad is kept and bool((kept == 1).all())
    assert net.inner[0].bias.grad is None
    for layer in report:
        name = layer.parameter.removeprefix("net.")
        assert layer.weight_grad.rms == pytest.approx(truth[name].rms, rel=1e-5)


def linears(net):
    return [(name, m) for name, m in net.named_modules() if isinstance(m, nn.Linear)]


class Seen(TorchDispatchMode):
    """Looks at every operator."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_the_first_profile_of_a_process_may_run_under_a_dispatch_mode(monkeypatch):
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(3, 4)
    monkeypatch.setattr(dispatch, "_kernels", {})  # as where none was asked for before
    with Seen():
        report = profile(net, x)
    assert not report.skipped and [layer.op for layer in report] == ["linear + tanh"]


def test_a_frozen_scripted_net_is_listed():
    net = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()))
    report = profile(net, torch.randn(3, 4))
    assert "scripted" in reasons(report)[""]
