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
