"""The second run after a NaN: it leaves the net as the first did, and changes no number."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases.profiles import batch
from torch import nn

import initfast
from initfast import Profiler, profile


class Busy(nn.Module):
    """Writes to whatever a module may hold, draws, and makes a NaN at the end if it is to."""

    def __init__(self, bad=True):
        super().__init__()
        self.linear, self.bad = nn.Linear(4, 4), bad
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("steps", torch.zeros(()))
        self.calls, self.log, self.kept = 0, [], {"sum": torch.zeros(4)}
        self.generator = torch.Generator()
        self.ran = []

    def forward(self, x):
        self.ran.append(self.calls)
        self.calls += 1
        self.log.append("run")
        self.last = x
        self.steps += 1
        with torch.no_grad():
            self.scale.mul_(2)
            self.linear.bias.data.add_(1)
            self.kept["sum"].add_(1)
        self.norm(torch.rand(4, 4, generator=self.generator))
        z = F.dropout(self.norm(self.linear(x)), 0.5) * self.scale
        return torch.log(z - 1e3) if self.bad else z


def state(net):
    """All that a forward of it writes to."""
    tensors = {name: t.clone() for name, t in net.state_dict().items()}
    return tensors | {"kept": net.kept["sum"].clone(), "generator": net.generator.get_state()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", [None, torch.sum])
def test_the_net_is_left_as_one_run_leaves_it(training, loss):
    found = {}
    for trace in (False, True):
        torch.manual_seed(0)
        net, x = Busy().train(training), batch(8, 4)
        report = profile(net, x, loss=loss, trace_nonfinite=trace)
        assert net.ran == [0] and net.calls == 1 and net.log == ["run"] and net.last is x
        assert not net._forward_hooks and "_compiled_call_impl" not in vars(net)
        assert all(p.grad is None for p in net.parameters())
        found[trace] = state(net), report, torch.get_rng_state()
    (before, untraced, random), (after, traced, random_too) = found[False], found[True]
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert torch.equal(random, random_too)
    assert [str(x.to_dict()) for x in traced] == [str(x.to_dict()) for x in untraced]
    assert untraced.outcome.source is None
    assert traced.outcome.source.name == "log" and "test_nonfinite_trace.py" in traced.origin


@pytest.fixture
def counted():
    """A net that counts its runs where no profile sees it, and what it does in the second."""

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            runs.append(1)
            return then(torch.log(self.linear(x)) if bad[0] else self.linear(x))

    runs, bad = [], [True]

    def then(y):
        if len(runs) > 1:
            raise RuntimeError("the second run fails")
        return y

    return Counted(), runs, bad


def test_a_sound_net_runs_once(counted):
    net, runs, bad = counted
    bad[0] = False
    profile(net, batch(3, 4))
    assert len(runs) == 1


def test_it_can_be_turned_off_and_a_profiler_has_none(counted):
    net, runs, _ = counted
    report = profile(net, batch(3, 4), trace_nonfinite=False)
    assert len(runs) == 1 and report.outcome.source is None and report.first_nonfinite is not None
    runs.clear()
    with Profiler(net) as p:
        net(batch(3, 4))
    assert len(runs) == 1 and p.report().outcome.source is None
    with pytest.raises(TypeError, match="trace_nonfinite is 1; expected True or False"):
        profile(net, batch(3, 4), trace_nonfinite=1)


def test_what_the_second_run_raises_is_not_raised(counted):
    net, runs, _ = counted
    report = profile(net, batch(3, 4))
    assert len(runs) == 2 and report.first_nonfinite is not None
    assert report.outcome.source is None or report.outcome.source.name == "log"
    torch.ones(2).log()  # no mode is left
    assert torch.is_grad_enabled() and not torch.is_anomaly_enabled()


def test_an_input_that_the_net_writes_to_is_not_explained():
    class Writing(nn.Module):
        def forward(self, x):
            return x.sub_(1e3).log()

    x = 1 + batch(3, 4).abs()
    report = profile(Writing(), x)
    assert report.first_nonfinite is not None and report.outcome.source is None
    assert x.max() < -900  # once


def test_the_net_s_own_input_and_a_constant_are_told_apart():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.offset = torch.full((4,), torch.nan)

        def forward(self, x):
            return self.linear(x + self.offset)

    report = profile(Adds(), batch(3, 4))
    assert report.outcome.source.kind == "constant"
    assert "a tensor that the code holds, used at test_nonfinite_trace.py:" in report.origin
    x = batch(3, 4)
    x[0, 0] = torch.nan
    report = profile(nn.Linear(4, 4), x)
    assert report.origin.endswith("They were in the net's own input already.")


def test_the_loss_is_in_the_report():
    net, x = nn.Linear(4, 2), batch(3, 4)
    report = profile(net, x, loss=lambda y: y.square().mean())
    assert report.loss == pytest.approx(net(x).square().mean().item())
    assert profile(net, x).loss is None
    both = report.merge(profile(net, x, loss=lambda y: y.sum() * 0 + 1))
    assert both.loss == pytest.approx((report.loss + 1) / 2)
    assert type(report).from_dict(report.to_dict()).loss == report.loss


@pytest.mark.parametrize("factor, severity", [(1, None), (40, "warning"), (400, "error")])
def test_a_classification_loss_at_the_start_is_about_ln_of_the_classes(factor, severity):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 100)), torch.randn(64, 32)
    net[2].weight.data.mul_(factor)
    targets = torch.randint(100, (64,))

    def found(**given):
        report = profile(net, x, **given)
        return report, [f for f in report.findings if f.rule == "initial_loss"]

    report, findings = found(loss=nn.CrossEntropyLoss(), targets=targets)
    assert len(findings) == (severity is not None)
    if severity:  # that of the weights, which lead
        assert report.findings[0].severity == severity
    assert report.outcome.cross_entropies == ((100, report.loss),)
    twice = found(loss=lambda y: 3 * F.cross_entropy(y, targets) + 1)[1]
    assert [f.severity for f in twice] == [f.severity for f in findings]
    summed = found(loss=lambda y: F.cross_entropy(y, targets, reduction="sum"))[1]
    weighted = found(loss=nn.CrossEntropyLoss(weight=torch.rand(100)), targets=targets)[1]
    assert not summed and not weighted
    if severity:
        assert "ln(100) = 4.605" in findings[0].measured
        exec(findings[0].code, {"net": net, "report": report, "initfast": initfast})
        assert not found(loss=nn.CrossEntropyLoss(), targets=targets)[1]


class Learning(nn.Module):
    """Runs a backward of its own within its forward, and draws from Python's and numpy's state."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        with torch.enable_grad():
            self.linear(x + random.random() + np.random.rand()).sum().backward()
        return torch.log(-self.linear(x).abs())


@pytest.mark.parametrize("graded", [False, True])
def test_gradients_and_other_random_states_are_as_one_run_leaves_them(graded):
    found = {}
    for trace in (False, True):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        net = Learning()
        if graded:
            net.linear.weight.grad = torch.ones(4, 4)
        report = profile(net, torch.ones(2, 4), trace_nonfinite=trace)
        assert (report.outcome.source is not None) == trace
        grads = [p.grad.tolist() for p in net.parameters()]
        found[trace] = grads, random.random(), np.random.rand()
    assert found[False] == found[True]


def test_a_cross_entropy_of_many_labels_at_once_is_not_judged():
    labels = torch.zeros(8, 100)
    labels[:, :20] = 1
    report = profile(nn.Linear(16, 100), torch.randn(8, 16), loss=F.cross_entropy, targets=labels)
    assert report.loss > 50 and not report.outcome.cross_entropies
