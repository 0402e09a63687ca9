"""What functions and modules are given under a profile, and that no layer runs unseen."""

import collections
import pickle
import threading

import pytest
import torch
from torch import nn

from initfast import Profiler, profile


class Sub(torch.Tensor):
    pass


@torch.overrides.wrap_torch_function(lambda x, *others, **named: (x,))
def remember(x, *structures, **named):
    """Writes to each structure that it is given."""
    for structure in (*structures, *named.values()):
        if isinstance(structure, list):
            structure.append(x)
        elif isinstance(structure, dict):
            structure["x"] = x
        SEEN.append(type(structure))
    return x * 2


SEEN = []
Pair = collections.namedtuple("Pair", "a b")


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.lengths = []

    def forward(self, x):
        z = self.linear(x)
        kept, named, ordered = [], {}, collections.OrderedDict(z=z)
        y = remember(z, kept, named, ordered, [z], cache=[], pair=Pair(z, 1))
        self.lengths.append((len(kept), len(named), len(ordered)))
        return y + ordered["z"] + torch.stack([z, z]).sum(0) + torch.cat(Pair(z, z)).sum()


@pytest.mark.parametrize("run", ["profile", "loss", "Profiler"])
def test_a_function_writes_to_the_structures_that_it_is_given(run):
    net, x = Remembers(), torch.randn(2, 4)
    wanted = net(x)
    kinds = list(SEEN)
    SEEN.clear()
    if run == "Profiler":
        with Profiler(net):
            assert torch.equal(net(x), wanted)
    else:
        profile(net, x, **({"loss": lambda y: y.sum()} if run == "loss" else {}))
    assert set(net.lengths) == {(1, 1, 2)}
    assert kinds == SEEN
    SEEN.clear()


def test_a_module_is_pickled_within_a_forward():
    class Pickles(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

        def forward(self, x):
            return pickle.loads(pickle.dumps(self.inner))(x)

    net, x = Pickles(), torch.randn(2, 4)
    with Profiler(net):
        assert torch.equal(net(x), net.inner(x))
    profile(net, x)


class OnASubclass(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.tanh(self.linear(x.as_subclass(Sub))).as_subclass(torch.Tensor)


class ReturnsItsPreActivation(OnASubclass):
    def forward(self, x):
        z = self.linear(x)
        torch.relu(z)
        return z


class ReturnsBoth(OnASubclass):
    def forward(self, x):
        z = self.linear(x)
        return torch.relu(z), z


class InAThread(OnASubclass):
    def forward(self, x):
        found = []

        def work():
            with torch.no_grad():
                found.append(self.linear(x))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found[0] * 2


KINDS = [OnASubclass, ReturnsItsPreActivation, ReturnsBoth]


@pytest.mark.parametrize(
    ("kind", "gradients"),
    [*((kind, gradients) for kind in KINDS for gradients in (False, True)), (InAThread, False)],
)
def test_every_module_that_ran_is_in_the_report(kind, gradients):
    net, x = nn.Sequential(kind()), torch.randn(3, 4)
    loss = {"loss": lambda y: sum(t.sum() for t in y) if isinstance(y, tuple) else y.sum()}
    report = profile(net, x, **(loss if gradients else {}))
    assert {"0", "0.linear"} <= {name for layer in report for name in layer.names}
    linear = report["0.linear"]
    z = net[0].linear(x)
    of = linear.pre if linear.pre is not None else linear.post
    assert of.mean == pytest.approx(z.mean().item(), rel=1e-4, abs=1e-6)
    if kind is ReturnsItsPreActivation:
        assert report["0"].mean == pytest.approx(z.mean().item(), rel=1e-4, abs=1e-6)


ENDS_BEFORE = [
    lambda: nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), nn.GELU()),
    lambda: nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), nn.ReLU(True)),
    lambda: nn.Sequential(nn.Sequential(nn.Identity(), nn.Linear(16, 8)), nn.Tanh()),
    lambda: nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(16, 8))), nn.ReLU(True)),
    lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Identity(), nn.ReLU()),
]


@pytest.mark.parametrize("make", ENDS_BEFORE)
@pytest.mark.parametrize("how", ["profile", "stop", "loss", "Profiler"])
def test_a_name_has_the_numbers_of_what_its_module_returned(make, how):
    net, x = make(), torch.randn(4, 3, 16, 16)
    means = {}
    hooks = [
        module.register_forward_hook(
            lambda m, a, y, name=name: means.__setitem__(name, y.double().mean().item())
        )
        for name, module in net.named_modules()
    ]
    net(x)
    for hook in hooks:
        hook.remove()
    if how == "Profiler":
        with Profiler(net) as p:
            net(x)
        report = p.report()
    else:
        how = {"stop": {"stop_at_nonfinite": True}, "loss": {"loss": lambda y: y.sum()}}.get(
            how, {}
        )
        report = profile(net, x, **how)
    for layer in report:
        for name in layer.names:
            of = [layer.post, layer.pre] if name == layer.name and layer.pre else [layer.post]
            found = [moments.mean for moments in of]
            assert any(m == pytest.approx(means[name], rel=1e-4, abs=1e-6) for m in found), name
    assert set(means) == {name for layer in report for name in layer.names}
