"""Recurrent modules step by step, against torch's cells, autograd and numpy's eigenvalues."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import initfast
from initfast.recording.recurrence import of_call
from initfast.stats.recurrence import Gate, Recurrence


class LastStep(nn.Module):
    def __init__(self, rnn, features=16):
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(features, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def recurrence_of(net, x):
    return next(r.recurrence for r in initfast.profile(net, x, measure="recurrent") if r.recurrence)


def serious(report):
    return [f for f in report.findings if f.severity != "info"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.RNN(5, 7, nonlinearity="relu", bias=False),
        lambda: nn.RNN(5, 7, bidirectional=True),
        lambda: nn.LSTM(5, 7, num_layers=2, bidirectional=True, proj_size=3),
        lambda: nn.GRU(5, 7, num_layers=2, dropout=0.0, bias=False),
    ],
)
def test_states_are_torchs(make):
    torch.manual_seed(0)
    net, x = make().double(), torch.randn(6, 4, 5, dtype=torch.float64)
    found, (y, _) = recurrence_of(net, x), net(x)
    last = f"l{net.num_layers - 1}"
    parts = [last, f"{last}_reverse"][: 1 + net.bidirectional]
    outputs = dict(zip(parts, y.chunk(len(parts), -1), strict=True))
    for part, output in outputs.items():
        expected = output.square().mean((1, 2)).sqrt()
        steps = found[part].state[::-1] if "reverse" in part else found[part].state
        assert steps == pytest.approx(expected.tolist(), rel=1e-9)


def test_the_gradient_by_step_is_autograds():
    torch.manual_seed(0)
    rnn, x = nn.GRU(3, 8).double(), torch.randn(5, 2, 3, dtype=torch.float64)
    cell, states = nn.GRUCell(3, 8).double(), [torch.zeros(2, 8, dtype=torch.float64)]
    cell.load_state_dict({n.removesuffix("_l0"): p for n, p in rnn.state_dict().items()})
    for given in x:
        states.append(cell(given, states[-1].requires_grad_()))
    random = torch.Generator().manual_seed(0x1F)
    end = torch.randn(2, 8, generator=random, dtype=torch.float64)
    grads = torch.autograd.grad(states[-1], states[1:], end)
    expected = [float(g.norm() / end.norm()) for g in grads]
    assert recurrence_of(rnn, x)["l0"].gradient == pytest.approx(expected, rel=1e-9)


def test_what_no_float_holds_of_a_gradient_is_zero_and_the_others_stay():
    torch.manual_seed(0)
    w = torch.full((1, 1), 1e-30)
    found = of_call("rnn_relu", torch.ones(40, 1, 1), (torch.zeros(1, 1, 1),), [w, w], False, 1)
    gradient = found["l0"].gradient
    assert gradient[-2] == pytest.approx(1e-30) and gradient[-10] == pytest.approx(1e-270)
    assert gradient[0] == 0


@pytest.mark.parametrize("kind", ["random", "triangular", "rotation", "nilpotent"])
def test_the_spectral_radius_is_that_of_the_eigenvalues(kind):
    torch.manual_seed(0)
    rnn = nn.RNN(2, 6)
    with torch.no_grad():
        w = rnn.weight_hh_l0
        if kind == "triangular":
            w.triu_()
        elif kind == "rotation":
            nn.init.orthogonal_(w).mul_(1.5)
        elif kind == "nilpotent":
            w.triu_(1)
    expected = abs(np.linalg.eigvals(rnn.weight_hh_l0.detach().double().numpy())).max()
    found = recurrence_of(rnn, torch.randn(3, 1, 2))["l0"].spectral_radius
    assert found == pytest.approx(expected, rel=0.01, abs=1e-3)


def test_packed_sequences_count_those_with_the_most_steps():
    torch.manual_seed(0)
    rnn, long = nn.LSTM(3, 4), [torch.randn(6, 3), torch.randn(6, 3)]
    packed = recurrence_of(rnn, pack_sequence([*long, torch.randn(2, 3)]))["l0"]
    assert (packed.steps, packed.sequences) == (6, 2)
    assert packed.gradient == pytest.approx(recurrence_of(rnn, torch.stack(long, 1))["l0"].gradient)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_gradients_that_vanish_over_many_steps_are_found_and_the_code_cures(kind):
    torch.manual_seed(0)
    layers = 2 if kind is nn.LSTM else 1
    net, x = LastStep(kind(4, 16, layers, batch_first=True)), torch.randn(2, 250, 4)
    report = initfast.profile(net, x, measure="recurrent")
    (finding,) = serious(report)
    assert finding.rule == "recurrent" and "250 steps" in finding.measured
    assert not [s for s in report.skipped_checks if s.rule == "recurrent"]
    exec(finding.code, {"net": net, "report": report, "initfast": initfast})
    after = initfast.profile(net, x, measure="recurrent")
    assert not serious(after)
    assert (
        after[0].recurrence["l0"].first_gradient > 1e-30 > report[0].recurrence["l0"].first_gradient
    )


def test_gradients_that_grow_are_found_below_the_radius_that_is_wrong_in_itself():
    torch.manual_seed(0)
    rnn = nn.RNN(4, 16, batch_first=True)
    nn.init.orthogonal_(rnn.weight_hh_l0, 2.0)
    report = initfast.profile(rnn, 0.01 * torch.randn(2, 60, 4), measure="recurrent")
    assert [f.rule for f in serious(report)] == ["recurrent"]
    assert "gradient grows" in report.findings[0].measured


def test_a_weight_of_one_sign_has_the_radius_that_its_mean_makes():
    torch.manual_seed(0)
    rnn = nn.RNN(4, 64, batch_first=True)
    nn.init.uniform_(rnn.weight_hh_l0, 0.0, 0.4)
    finding = serious(initfast.profile(rnn, torch.randn(2, 8, 4)))[0]
    radius = abs(np.linalg.eigvals(rnn.weight_hh_l0.detach().numpy())).max()
    assert finding.rule == "recurrent" and finding.value == pytest.approx(radius, rel=0.1)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_outputs_and_random_state_are_untouched(mode):
    torch.manual_seed(0)
    rnn, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    state = torch.get_rng_state()
    with mode(), initfast.Profiler(rnn, measure="recurrent") as p:
        y = rnn(x)[0]
    with mode():
        assert torch.equal(y, rnn(x)[0]) and torch.equal(state, torch.get_rng_state())
    assert p.report()[0].recurrence["l0"].steps == 5
    assert "initfast/recurrence/net.l0/forget_saturated" in p.report().scalars()


def test_it_is_kept_and_merged(tmp_path):
    torch.manual_seed(0)
    rnn = nn.RNN(3, 4)
    with initfast.Profiler(rnn, measure="recurrent") as p:
        rnn(torch.randn(5, 2, 3)), rnn(torch.randn(5, 6, 3))
    report = p.report()
    assert report[0].recurrence["l0"].sequences == 8
    report.to_json(tmp_path / "a.json")
    assert initfast.Report.load(tmp_path / "a.json")[0].recurrence == report[0].recurrence
    one, two = (
        Recurrence((s,), (1.0,), {"state": Gate(s, 0.0)}, s, n) for s, n in ((3, 1), (1, 3))
    )
    merged = one.merge(two)
    assert merged.state[0] == pytest.approx(math.sqrt(3)) and merged.gates["state"].mean == 1.5
    longer = Recurrence((1.0, 1.0), (1.0, 1.0))
    assert one.merge(longer) == longer == longer.merge(one)


def test_a_call_of_ones_own_with_keywords_runs_unmeasured():
    class Own(nn.GRU):
        def forward(self, x):
            h = torch.zeros(1, x.shape[1], 4)
            flags = {"dropout": 0.0, "train": False, "bidirectional": False, "batch_first": False}
            return torch.gru(x, h, self._flat_weights, has_biases=True, num_layers=1, **flags)[0]

    net, x = Own(3, 4), torch.randn(5, 2, 3)
    (row,) = initfast.profile(net, x, measure="recurrent")
    assert row.recurrence is None and row.rms == pytest.approx(net(x).square().mean().sqrt().item())
