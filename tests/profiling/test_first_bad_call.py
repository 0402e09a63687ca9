"""Profiler says at which call the first NaN or infinity came, and what had grown before."""

import torch
from torch import nn

from initfast import Profiler


def trained(rate, steps=12):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)), torch.randn(64, 8)
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    first = None
    with Profiler(net) as p:
        for step in range(steps):
            optimiser.zero_grad()
            y = net(x)
            if first is None and not torch.isfinite(y).all():
                first = step + 1
            (y - 50 * x[:, :1]).square().mean().backward()
            optimiser.step()
    return p, first


def test_the_first_bad_call_is_counted_from_one():
    p, first = trained(1e3)
    notes = p.report().notes
    assert first is not None and len(notes) == 1
    # The gradients may overflow a call before the output does.
    assert any(f"in call {call} of the net" in notes[0] for call in (first, first - 1))
    assert "the gradients' norm grew" in notes[0]
    assert p.report().notes == notes


def test_a_sound_training_has_no_such_note():
    p, first = trained(1e-3)
    assert first is None and p.report().notes == []


def test_training_that_diverges_is_told_from_parameters_that_were_never_filled():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = torch.optim.SGD(net.parameters(), lr=5.0)
    with Profiler(net) as p:
        for _ in range(12):
            optimizer.zero_grad()
            net(torch.randn(32, 16)).square().sum().backward()
            optimizer.step()
    (found,) = [f for f in p.report().findings if f.severity == "error" and f.rule == "non_finite"]
    assert "training diverged" in found.cause and "learning rate" in found.advice
    net[0].weight.data.fill_(float("nan"))
    with Profiler(net) as p:
        net(torch.randn(32, 16))
    assert "have such values already" in p.report().findings[0].cause
