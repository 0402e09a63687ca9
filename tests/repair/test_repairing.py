"""repair_: faults of parameters are put right, nothing ends worse, trained nets are refused."""

import pytest
import torch
from cases.switches import times
from nets.faults import FAULTS, distance, does_harm, effect
from nets.healthy import OWN
from nets.healthy_sequences import ON_SEQUENCES
from nets.heldout import HELD_OUT
from nets.labelled import MADE
from nets.well_known import WELL_KNOWN
from torch import nn

import initfast
from initfast.errors import ArgumentError
from initfast.repair.drawn import looks_drawn, trained_weights
from initfast.repair.repairing import Step, _Done, _without_needless, score

NOT_IN_PARAMETERS = ("sigmoid", "NaN in the input", "a log of what may be negative")
"""Nets whose fault is an activation, the input or a function: no initialiser mends these."""

FAULTY = [(seed, case) for seed, case in enumerate([*HELD_OUT, *MADE]) if case.faults]
EVERY = 1 if times(1) > 1 else 4


@pytest.mark.parametrize("part", range(4))
def test_faults_in_parameters_are_repaired(part):
    left, tried = [], 0
    for seed, case in FAULTY[part :: 4 * EVERY]:
        torch.manual_seed(seed)
        net, x = case.build().train(case.training), case.x()
        done = initfast.repair_(net, x)
        assert score(done.after) <= score(done.before), case.name
        if score(done.before) == (0, 0) or case.name.startswith(NOT_IN_PARAMETERS):
            continue
        tried += 1
        assert score(done.after) == score(initfast.profile(net, x))
        if not done.is_healthy:
            left.append((case.name, done.after.findings[0].rule))
    assert tried >= 3
    assert len(left) <= 0.05 * tried, left


def mutants():
    """Faults of parameters in healthy nets, where they do harm: one in 16, or all."""
    for i, healthy in enumerate(OWN + ON_SEQUENCES):
        for j, fault in enumerate(FAULTS):
            if fault.name == "no norms" or (EVERY > 1 and (i + 7 * j) % 16):
                continue
            torch.manual_seed(i)
            net, x = healthy.build().train(), healthy.x()
            before = effect(net, x)
            with torch.no_grad():
                names = fault.put(net)
            if names is not None and does_harm(before, effect(net, x)):
                yield f"{healthy.name}, {fault.name}", net, x


def test_mutants_are_repaired():
    left, tried = [], 0
    for name, net, x in mutants():
        done = initfast.repair_(net, x, loss=distance)
        assert score(done.after) <= score(done.before), name
        tried += score(done.before) > (0, 0)
        left += [] if done.is_healthy else [(name, done.after.findings[0].rule)]
    print(f"{tried - len(left)} of {tried} mutants repaired")
    assert tried >= 5
    assert len(left) <= 0.05 * tried, left


@pytest.mark.parametrize("name", ["N(0, 1)", "all weights times 1/1000"])
def test_a_net_of_sines_is_repaired_as_a_siren(name):
    """What follows its layers is torch.sin, which only a run shows."""
    (siren,) = [healthy for healthy in OWN + ON_SEQUENCES if healthy.name == "SIREN"]
    (fault,) = [fault for fault in FAULTS if fault.name == name]
    torch.manual_seed(0)
    net, x = siren.build().train(), siren.x()
    with torch.no_grad():
        fault.put(net)
    done = initfast.repair_(net, x, loss=distance)
    assert score(done.before) > (0, 0) and done.is_healthy


def test_every_one_of_many_like_faults_is_mended():
    """Ten branches beside each other, and in each a weight that is too large: one finding."""
    torch.manual_seed(0)
    branches = nn.ModuleList(deep(3, width=32) for _ in range(10))
    for branch in branches:
        initfast.initialize_(branch, seed=1)
        branch[2].weight.data.mul_(30)

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = branches

        def forward(self, x):
            return torch.cat([branch(x) for branch in self.branches], 1)

    done = initfast.repair_(Branches(), torch.randn(64, 32))
    assert done.is_healthy and {f"branches.{i}.2.weight" for i in range(10)} <= {*done.changed}


def test_drawn_biases_beside_new_weights_become_0_and_set_ones_stay():
    """Tanh at the gain of its critical line is critical beside biases of 0 alone."""
    torch.manual_seed(0)
    net, x = deep(50, nn.Tanh), torch.randn(64, 64)
    net[40].bias.data.fill_(0.01)
    net[60].bias.requires_grad_(False)
    frozen = net[60].bias.clone()
    done = initfast.repair_(net, x, loss=lambda y: y.square().mean())
    assert done.is_healthy and "2.bias" in done.changed
    assert (net[40].bias == torch.tensor(0.01)).all() and torch.equal(net[60].bias, frozen)
    assert all((layer.bias == 0).all() for layer in net[:40:2])


def test_inputs_stay_apart_in_a_repaired_net():
    """With torch's biases left beside the new weights, 50 layers make all inputs nearly one."""
    torch.manual_seed(0)
    net, x = deep(50, nn.Tanh), torch.randn(64, 64)
    initfast.repair_(net, x)
    y = net(x)
    assert y.std(0).mean() > 0.5 * y.square().mean().sqrt()


def deep(n=20, act=nn.ReLU, width=64):
    return nn.Sequential(*[m for _ in range(n) for m in (nn.Linear(width, width), act())])


def test_the_reports_the_steps_and_the_text():
    torch.manual_seed(0)
    net, x = deep(), torch.randn(64, 64)
    before = [p.clone() for p in net.parameters()]
    done = initfast.repair_(net, x)
    assert done.before.findings[0].rule == "vanishing" and done.is_healthy
    assert len(done.steps) == 1 and "0.weight" in done.changed
    assert "before: 1 error, 0 warnings\nafter: 0 errors, 0 warnings" in str(done)
    assert not torch.equal(net[0].weight, before[0])
    again = initfast.repair_(net, x)
    assert again.steps == [] and "nothing was changed" in str(again)


def test_what_no_initialiser_mends_is_left_as_it_was():
    torch.manual_seed(0)
    net, x = deep(act=nn.Sigmoid), torch.randn(64, 64)
    before = [p.clone() for p in net.parameters()]
    done = initfast.repair_(net, x)
    assert not done.is_healthy and done.steps == []
    assert all(map(torch.equal, before, net.parameters()))


def test_frozen_parameters_stay():
    torch.manual_seed(0)
    net, x = deep(), torch.randn(64, 64)
    for p in net[4].parameters():
        p.requires_grad_(False)
    before = net[4].weight.clone()
    initfast.repair_(net, x)
    assert torch.equal(net[4].weight, before)


def test_gradients_count_too():
    torch.manual_seed(0)
    net, x = deep(30), torch.randn(64, 64)
    done = initfast.repair_(net, x, loss=nn.functional.mse_loss, targets=torch.zeros(64, 64))
    assert any(f.rule == "gradient_vanishing" for f in done.before.findings)
    assert done.is_healthy and done.after[0].grad is not None
    assert all(p.grad is None for p in net.parameters())


def trained(steps):
    torch.manual_seed(0)
    layers = nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)
    net, x = nn.Sequential(*layers), torch.randn(256, 32)
    y = x[:, :8].argmax(1)
    step = torch.optim.Adam(net.parameters(), 3e-2).step
    for _ in range(steps):
        net.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        step()
    return net, x


def test_a_trained_net_is_refused_without_force():
    net, x = trained(40)
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(ArgumentError, match=r"net looks trained: \d of 3 weights"):
        initfast.repair_(net, x)
    assert all(map(torch.equal, before, net.parameters()))
    initfast.repair_(net, x, force=True)
    assert trained_weights(trained(0)[0]) == ([], 3)


@pytest.mark.parametrize("case", WELL_KNOWN[:: 2 * EVERY], ids=lambda case: case.name)
def test_no_net_as_built_looks_trained(case):
    assert trained_weights(case.build())[0] == []


def test_what_looks_drawn():
    torch.manual_seed(0)
    w = torch.empty(64, 64)
    for fill in (
        lambda w: w.normal_(0.3, 7.0),
        lambda w: w.uniform_(-1, 1),
        lambda w: nn.init.trunc_normal_(w, a=-1, b=1),
        nn.init.orthogonal_,
    ):
        assert looks_drawn(fill(w))
    assert looks_drawn(w.fill_(0.02)) is None
    assert looks_drawn(torch.randn(1, 64).expand(64, 64)) is None
    assert looks_drawn(torch.randn(3, 3)) is None
    assert looks_drawn(torch.distributions.Laplace(0.0, 1.0).sample((64, 64))) is False


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_nothing_is_half_changed_whatever_raises(error):
    torch.manual_seed(0)
    net, x, calls = deep(), torch.randn(64, 64), []

    def fails(module, args):
        calls.append(1)
        if len(calls) > 1:
            raise error

    net.register_forward_pre_hook(fails)
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(type(error)):
        initfast.repair_(net, x)
    assert len(calls) == 2
    assert all(map(torch.equal, before, net.parameters()))


def test_no_module_is_replaced():
    """Where the loss asks for log-probabilities, the advice ends the net in a further module."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    modules, x = [*net.modules()], torch.randn(16, 32)
    targets = torch.arange(16) % 10
    done = initfast.repair_(net, x, loss=nn.functional.nll_loss, targets=targets)
    assert any("set_submodule" in finding.code for finding in done.before.findings)
    assert [*net.modules()] == modules


def test_a_step_that_a_later_one_has_made_needless_is_undone():
    torch.manual_seed(0)
    x = torch.randn(64, 64)
    net = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(64, 64), nn.ReLU())])
    for linear in net[::2]:
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    sound, wrong = net[0].weight.detach().clone(), torch.full_like(net[4].weight, 30.0)
    nn.init.kaiming_normal_(net[0].weight, nonlinearity="relu")
    done = [
        _Done(Step("first", "explosion", ("0.weight",)), {"0.weight": sound}),
        _Done(Step("cure", "explosion", ("4.weight",)), {"4.weight": wrong}),
    ]
    cured = net[4].weight.detach().clone()
    measure = lambda: initfast.profile(net, x)  # noqa: E731
    _, needed = _without_needless(net, measure(), measure, done)
    assert [one.step.what for one in needed] == ["cure"]
    assert torch.equal(net[0].weight, sound) and torch.equal(net[4].weight, cured)
    done[0] = done[0]._replace(before={"0.weight": 1e6 * sound})  # without it the net explodes
    _, needed = _without_needless(net, measure(), measure, done)
    assert len(needed) == 2 and torch.equal(net[0].weight, sound)
