"""How much memory a profile takes at a time, and that nothing of it is left behind."""

import gc
import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity

import initfast
from initfast.ops.schemas import LIBRARY

# ---- the most at a time ----

of_the_kernels = pytest.mark.skipif(
    LIBRARY.backend == "reference", reason="the reference's formulas take copies in float64"
)


def peaks(runs):
    """The most bytes that tensors made by each run have at a time, by the runs' names."""
    gc.collect()
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        for name, run in runs.items():
            with torch.profiler.record_function(name):
                run()
    events = seen.profiler.kineto_results.events()
    spans = {e.name(): (e.start_ns(), e.end_ns()) for e in events if e.name() in runs}
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    found = {}
    for name, (start, end) in spans.items():
        within = [change for at, change in changes if start <= at <= end]
        found[name] = max(itertools.accumulate(within))
    assert found.keys() == runs.keys()
    return found


class Loop(nn.Module):
    """Linear layers with a functional activation."""

    def __init__(self, act):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(128, 128) for _ in range(12))
        self.act = act

    def forward(self, x):
        for linear in self.linears:
            x = self.act(linear(x))
        return x


def mlp(act):
    return nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(128, 128), act())])


def convnet():
    layers = [m for _ in range(12) for m in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers)


NETS = {
    "relu": (mlp(nn.ReLU), (1024, 128)),
    "sigmoid": (mlp(nn.Sigmoid), (1024, 128)),
    "gelu": (mlp(nn.GELU), (1024, 128)),
    "leaky relu": (mlp(nn.LeakyReLU), (1024, 128)),
    "functional relu": (Loop(F.relu), (1024, 128)),
    "small functional tanh": (Loop(torch.tanh), (256, 128)),
    "convolutions": (convnet(), (8, 8, 32, 32)),
}


@of_the_kernels
def test_gradients_take_the_memory_of_torchs_backward():
    """Of x, z and y of a layer those are kept that torch keeps."""

    def loss(output):
        return output.square().mean()

    runs = {}
    for name, (net, shape) in NETS.items():
        x = torch.randn(shape)
        runs[name] = partial(plain_backward, net, x, loss)
        runs[f"{name}, profile"] = partial(initfast.profile, net, x, loss=loss)
    found = peaks(runs)
    times = {name: found[f"{name}, profile"] / found[name] for name in NETS}
    assert max(times.values()) <= 1.05, times


def plain_backward(net, x, loss):
    torch.autograd.grad(loss(net(x)), list(net.parameters()))


@of_the_kernels
def test_a_forward_takes_the_memory_of_the_plain_one():
    ways = {
        "profile": initfast.profile,
        "stop": partial(initfast.profile, stop_at_nonfinite=True),
        "Profiler": lambda net, x: by_profiler(net, x, False),
    }
    runs = {}
    for name, (net, shape) in NETS.items():
        x = torch.randn(shape)
        runs[name] = partial(net, x)
        runs |= {f"{name}, {way}": partial(run, net, x) for way, run in ways.items()}
    with torch.no_grad():
        found = peaks(runs)
    pairs = [(name, f"{name}, {way}") for name in NETS for way in ways]
    times = {way: found[way] / found[name] for name, way in pairs}
    assert max(times.values()) <= 1.1, times


# ---- nothing afterwards ----


class Failing(nn.Module):
    """A bit of everything, then an error, if that is asked for."""

    def __init__(self, fails):
        super().__init__()
        self.fails = fails
        self.linear, self.norm = nn.Linear(16, 16), nn.LayerNorm(16)
        self.pairs = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.GELU())
        self.wrong = nn.Linear(17, 16)

    def forward(self, x):
        z = self.linear(x)
        y = torch.tanh(z)
        y = self.pairs(self.norm(y) + x)
        try:
            self.wrong(y)
        except RuntimeError:
            y = y + z
        if self.fails == "layer":
            return self.wrong(y)
        if self.fails == "forward":
            raise ValueError("in the forward")
        return y if self.fails != "value" else self.pairs(y / 0)


def fails_in_the_loss(output):
    raise ValueError("in the loss")


def fails_in_the_backward(output):
    def fail(grad):
        raise ValueError("in the backward")

    output.register_hook(fail)
    return output.sum()


def by_profiler(net, x, backward):
    with initfast.Profiler(net) as profiler:
        y = net(x)
        if backward:
            y.sum().backward()
            net.zero_grad()
    return profiler.report()


WAYS = {
    "profile": initfast.profile,
    "stop": lambda net, x: initfast.profile(net, x, stop_at_nonfinite=True),
    "loss": lambda net, x: initfast.profile(net, x, loss=torch.sum),
    "loss, stop": lambda net, x: initfast.profile(net, x, loss=torch.sum, stop_at_nonfinite=True),
    "loss that raises": lambda net, x: initfast.profile(net, x, loss=fails_in_the_loss),
    "backward that raises": lambda net, x: initfast.profile(net, x, loss=fails_in_the_backward),
    "Profiler": lambda net, x: by_profiler(net, x, False),
    "Profiler, backward": lambda net, x: by_profiler(net, x, True),
}


def tensors():
    return {id(o) for o in gc.get_objects() if issubclass(type(o), torch.Tensor)}


@pytest.mark.parametrize("fails", [None, "layer", "forward", "value"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore")
def test_no_tensor_lives_on_in_a_cycle(way, fails):
    """Of what a run made, once its report and its error are dropped, without the collector."""
    net, x = Failing(fails), torch.randn(8, 16)

    def run():
        try:
            len(WAYS[way](net, x).layers)
        except (ValueError, RuntimeError) as error:
            assert fails in ("layer", "forward") or "raises" in way, error

    run()
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        run()
        assert tensors() <= before
    finally:
        gc.enable()
