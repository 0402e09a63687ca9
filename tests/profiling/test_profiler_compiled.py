"""Profiler: compiled nets, and compiled functions of a net, run eagerly when they are measured."""

import pytest
import torch
from ranks.merge import net, whole_batch
from torch import nn

import initfast


@pytest.mark.parametrize("how", ["compile", "wrapper"])
def test_a_compiled_net_runs_eagerly_when_it_is_measured(how):
    model, x = net(), whole_batch()
    expected = initfast.profile(net(), x)
    if how == "compile":
        model.compile(backend="eager")
        called = model
    else:
        called = torch.compile(model, backend="eager")
    before = called.__dict__.get("_compiled_call_impl")
    with torch.no_grad(), initfast.Profiler(called, every=2) as p:
        for _ in range(3):
            torch.testing.assert_close(called(x), model[:](x))
        assert "compiled" in initfast.profile(called, x).notes[0]
    assert "compiled" in p.report().notes[0]
    assert [layer.post.count for layer in p.report()] == [2 * a.post.count for a in expected]
    assert called.__dict__.get("_compiled_call_impl") is before


def test_a_net_that_is_not_compiled_is_not_called_so():
    model, x = net(), whole_batch()
    torch.optim.SGD(model.parameters())  # imports what tells compiled nets
    with initfast.Profiler(model) as p, torch.no_grad():
        model(x)
        assert p.report().notes == initfast.profile(model, x).notes == []
    assert p.report().notes == []


def test_a_compiled_function_of_the_net_runs_eagerly_when_it_is_measured():
    pytest.importorskip("torch._dynamo")
    function = torch.compile(lambda z: torch.tanh(z) * 2, backend="eager")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return function(self.linear(x))

    net, x = Net(), torch.ones(2, 4)
    expected = net(x)
    with initfast.Profiler(net) as p:
        assert torch.equal(net(x), expected)
    assert p.report()["linear"].op == "linear + tanh"
