"""Nets that call their layers in a loop, and whether a profile measures their gradients."""

import torch
from cases.profiles import WIDTH, batch
from cases.unchanged import equal, state
from nets.with_gradients import assert_close, loss_of
from torch import nn

from initfast.profiling.profile import profile


class Loop(nn.Module):
    """Layers called one after the other; `after` is called with each pre-activation and result."""

    def __init__(self, after=None, depth=4):
        super().__init__()
        torch.manual_seed(0)
        self.linears = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth)).double()
        self.after = after
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        for linear in self.linears:
            z = linear(x)
            x = torch.tanh(z)
            if self.after is not None:
                x = self.after(z, x)
        return x


def check(net, x, loss=loss_of):
    """The report has torch's gradients at every tanh and every weight, and nothing is left.

    The profile runs the net once.
    """
    points, tanh = [], torch.tanh

    def kept(z):
        points.append(tanh(z))
        return points[-1]

    ends = [p for p in net.parameters() if p.requires_grad]
    torch.tanh = kept
    try:
        value = loss(net(x))
    finally:
        torch.tanh = tanh
    points = [t for t in points if t.requires_grad]
    found = torch.autograd.grad(value, [*points, *ends], allow_unused=True)
    weights = {id(p): g for p, g in zip(ends, found[len(points) :], strict=True)}
    before, net.calls = state(net), 0
    report = profile(net, x, loss=loss)
    assert equal(state(net), before) and net.calls == 1
    measured = [layer for layer in report if "tanh" in layer.op and layer.grad is not None]
    assert len(measured) == len(points)
    for layer, truth in zip(measured, found, strict=False):
        assert_close(layer.grad, truth)
    for layer in report.select("linears.*"):
        if layer.weight is not None and "linear" in layer.op:
            truth = weights.get(id(net.get_submodule(layer.name).weight))
            if truth is None:
                assert layer.weight_grad is None
            else:
                assert_close(layer.weight_grad, truth)
    return report


def data():
    return batch(6, WIDTH).double()
