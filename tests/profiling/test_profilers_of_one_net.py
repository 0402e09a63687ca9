"""Several Profilers of one net, Profilers of methods, and Profilers that saw no call."""

import contextlib
import copy
import inspect
import itertools
import pickle

import pytest
import torch
from torch import nn

import initfast
from initfast.profiling.profiler import ALL_RAISED


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 4), nn.Tanh())

    def forward(self, x):
        return self.encoder(x)

    def training_step(self, x):
        return self(x).mean()


def batches(count=4):
    return torch.randn(count, 5, 8, generator=torch.Generator().manual_seed(1))


def ways(net):
    return {"net": net, "method": net.training_step}


def call(net, way, x):
    with torch.no_grad():
        return net(x) if way == "net" else net.training_step(x)


@pytest.mark.parametrize("way", ["net", "method"])
@pytest.mark.parametrize("every", list(itertools.product([1, 2, 3], [1, 2])))
def test_each_sees_every_call_as_if_it_were_alone(way, every):
    net = Net()
    alone = []
    for n in every:
        with initfast.Profiler(ways(net)[way], every=n) as p:
            for x in batches():
                call(net, way, x)
        alone.append(p.report().layers)
    outer = initfast.Profiler(ways(net)[way], every=every[0])
    inner = initfast.Profiler(ways(net)[way], every=every[1])
    with outer, inner:
        for x in batches():
            call(net, way, x)
    assert outer.calls == inner.calls == 4
    assert [p.report().layers for p in (outer, inner)] == alone


@pytest.mark.parametrize("way", ["net", "method"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_they_may_end_in_any_order(way, order):
    net, x = Net(), batches()[0]
    before = dict(vars(net))
    profilers = [initfast.Profiler(ways(net)[way]) for _ in range(3)]
    for p in profilers:
        p.__enter__()
    for ended in order:
        call(net, way, x)
        profilers[ended].__exit__(None, None, None)
    call(net, way, x)
    assert [profilers[i].calls for i in order] == [1, 2, 3]
    assert vars(net) == before


def test_a_method_is_measured_and_calls_within_a_call_are_not_calls():
    net, x = Net(), batches()[0]
    with initfast.Profiler(net.training_step) as p:
        net.training_step(x).backward()
        net(x)  # not the method
    assert p.calls == 1
    (layer,) = p.report().layers
    assert layer.name == "encoder.0" and layer.grad is not None and layer.weight_grad is not None
    with initfast.Profiler(net.forward) as p:
        net(x)
        net.forward(x)
    assert p.calls == 2


def test_the_method_raises_what_it_raises_and_stays():
    net = Net()
    with initfast.Profiler(net.training_step) as p, pytest.raises(RuntimeError):
        net.training_step(torch.ones(3))
    assert p.report().layers == [] and "training_step" not in vars(net)
    assert p.report().notes == [ALL_RAISED]
    with p:
        net.training_step(batches()[0])
    assert p.report().notes == []


def test_copies_of_a_net_have_its_methods():
    net, x = Net(), batches()[0]
    with initfast.Profiler(net.training_step) as p:
        copies = copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))
        for each in copies:
            assert "training_step" not in vars(each) and each.training_step.__self__ is each
            assert torch.equal(each.training_step(x), net.training_step(x))
        of_its_own = copy.copy(net)
        of_its_own._modules = dict(net._modules, encoder=nn.Linear(8, 4))
        assert not torch.equal(of_its_own.training_step(x), net.training_step(x))
        assert initfast.profile(net.training_step, x)[0].name == "encoder.0"
    assert p.calls == 4 and "training_step" not in vars(net)
    assert nn.Module.__getstate__.__module__ == "torch.nn.modules.module"


def test_one_that_saw_no_call_says_so():
    net = Net()
    with initfast.Profiler(net) as p:
        net.encoder(batches()[0])
    said = str(p.report())
    assert "never called" in said and "initfast.Profiler(net.training_step)" in said
    assert p.calls == 0


@pytest.mark.parametrize("given", [Net, nn.Module.forward, torch.tanh, [].append, "net", None])
def test_what_is_no_net_is_refused(given):
    with pytest.raises(TypeError, match=r"Profiler: net is .*; expected"):
        initfast.Profiler(given)


def test_who_asks_for_a_measured_methods_arguments_gets_them():
    net = Net()
    with initfast.Profiler(net.training_step):
        assert list(inspect.signature(net.training_step).parameters) == ["x"]
        assert inspect.unwrap(net.training_step).__name__ == "training_step"


@pytest.mark.parametrize("loss", [False, True])
def test_many_profilers_see_the_same(loss):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    with contextlib.ExitStack() as stack:
        profilers = [stack.enter_context(initfast.Profiler(net)) for _ in range(5)]
        y = net(torch.randn(5, 4))
        if loss:
            y.sum().backward()
    first, *others = [
        [(x.name, x.op, x.pre, x.post, x.grad) for x in p.report()] for p in profilers
    ]
    assert [op for _, op, *_ in first] == ["linear + relu", "linear + tanh", "linear"]
    for other in others:
        assert other == first
