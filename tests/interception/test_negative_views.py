"""Views whose numbers torch negates as they are read, as the imaginary part of a conjugate."""

import copy

import pytest
import torch
from torch import nn

from initfast import init, ops
from initfast.profiling.profile import profile
from initfast.profiling.profiler import Profiler
from initfast.stats.moments import Moments

OPS = torch.ops.initfast


def negative(*shape):
    t = (torch.randn(*shape, dtype=torch.complex64) + 0.5j).conj().imag
    assert t.is_neg()
    return t


def net_with(negated):
    """A net of which one parameter is a negative view."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    for layer, name in negated:
        shape = getattr(net[layer], name).shape
        setattr(net[layer], name, nn.Parameter(negative(*shape)))
    return net


@pytest.mark.parametrize("loss", [None, torch.sum], ids=["forward", "loss"])
@pytest.mark.parametrize("make", [negative, torch.randn], ids=["view", "plain"])
@pytest.mark.parametrize(
    "negated", [[], [(0, "weight")], [(2, "weight"), (4, "bias")]], ids=["input", "first", "later"]
)
def test_a_net_with_negative_views_is_measured_as_it_computes(negated, make, loss):
    net, x = net_with(negated), make(5, 6)
    plain = copy.deepcopy(net)
    for parameter in plain.parameters():
        parameter.data = parameter.data.resolve_neg().clone()
    expected = profile(plain, x.resolve_neg(), loss=loss)
    report = profile(net, x, loss=loss)
    assert not report.skipped and [a.op for a in report] == [b.op for b in expected]
    with Profiler(net) as outer, Profiler(net) as inner:
        net(x)
    for found in (report, outer.report(), inner.report()):
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.mean == pytest.approx(theirs.mean, abs=1e-6)
            assert ours.std == pytest.approx(theirs.std, rel=1e-5)
            assert ours.weight.moments.mean == pytest.approx(theirs.weight.moments.mean, abs=1e-7)
            vectors = [{n: m.mean for n, m in a.vectors.items()} for a in (ours, theirs)]
            assert vectors[0] == pytest.approx(vectors[1], abs=1e-7)
    if loss is not None:
        assert [a.grad.mean for a in report] == pytest.approx([b.grad.mean for b in expected])


def test_outputs_of_modules_and_functions_that_are_negative_views():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.same = nn.Linear(6, 6), nn.Identity()

        def forward(self, x):
            y = self.same(torch._neg_view(self.linear(x)))
            return torch.relu(y), torch.fft.fft(y).conj().imag

    net, x = Net(), torch.randn(5, 6)
    report = profile(net, x)
    assert not report.skipped
    y = -net.linear(x).detach()
    assert report["same"].mean == pytest.approx(y.mean().item())
    assert report["same"].post.min == pytest.approx(y.min().item())
    last = report[-1]
    assert last.std == pytest.approx(net(x)[1].std().item(), rel=1e-5)


def test_every_operator_reads_and_writes_what_a_negative_view_reads_as():
    x = negative(4, 6)
    assert ops.moments(x)[4] == Moments.of(x.clone()).mean
    for name, rest in (
        ("act_", ("tanh", 0.0, 0.0, -1)),
        ("sample_", ("uniform", None, 2.0**-32, 0.5, 0.0, 1.0, 7, 0, (6, 1))),
        ("zero_rows_", (2, 7, 4, 0, 0)),
    ):
        view, plain = negative(4, 6), torch.empty(4, 6)
        plain.copy_(view)
        results = [getattr(OPS, name)(t, *rest) for t in (view, plain)]
        assert torch.equal(view, plain), name
        assert results[0] is None or torch.equal(results[0][0], results[1][0])
    view, plain = negative(6, 4), torch.empty(6, 4)
    plain.copy_(view)
    OPS.householder_q_(view), OPS.householder_q_(plain)
    assert torch.equal(view, plain)


@pytest.mark.parametrize(
    "name, rest",
    [("normal_", ()), ("orthogonal_", ()), ("sparse_", (0.5,)), ("kaiming_uniform_", ())],
)
@pytest.mark.parametrize("wrap", [lambda t: t, nn.Parameter], ids=["view", "parameter"])
def test_initialisers_fill_negative_and_conjugate_views(name, rest, wrap):
    function = getattr(init, name)
    view = wrap(negative(6, 6))
    function(view, *rest, key=3)
    assert torch.equal(view.detach(), function(torch.empty(6, 6), *rest, key=3))
    for make in (torch.conj, torch._neg_view, lambda t: torch._neg_view(t.conj())):
        view = make(torch.ones(6, 6, dtype=torch.complex64))
        expected = function(torch.empty(6, 6, dtype=torch.complex64), *rest, key=3)
        assert torch.equal(function(view, *rest, key=3), expected)
