"""Profiler.window(), the first bad call, and what is said where nothing was measured."""

import math

import pytest
import torch
from torch import nn

import initfast


def test_windows_part_the_calls_and_merge_to_the_whole():
    net, xs = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(6, 8, 4).double()
    net.double()
    with initfast.Profiler(net) as p, torch.no_grad():
        windows = []
        for i, x in enumerate(xs):
            net(x)
            if i in (1, 2, 5):
                windows.append(p.window())
        nothing = p.window()
    assert [w[0].post.count for w in windows] == [64, 32, 96]
    assert windows[1].inputs[0].mean == pytest.approx(xs[2].mean().item())
    assert len(nothing) == 0 and "No call" in nothing.notes[0]
    whole = windows[0].merge(windows[1]).merge(windows[2])
    assert p.report()[0].post.std == pytest.approx(whole[0].post.std, rel=1e-12)
    assert p.report()[0].post.count == 192


def test_a_call_that_awaits_its_backward_is_in_the_next_window():
    net, x = nn.Linear(4, 4), torch.randn(8, 4)
    with initfast.Profiler(net) as p:
        net(x).sum().backward()
        y = net(x)
        assert p.window()[0].post.count == 32
        y.sum().backward()
        later = p.window()
    assert later[0].post.count == 32 and later[0].grad.count == 32
    assert p.report()[0].grad.count == 64


@pytest.mark.parametrize("every", [1, 2])
def test_the_first_call_with_a_nonfinite_value_is_known(every):
    net = nn.Linear(4, 4)
    with initfast.Profiler(net, every=every) as p, torch.no_grad():
        for i in range(12):
            net(torch.full((2, 4), math.nan if i in (4, 9) else 1.0))
            assert p.first_nonfinite_call == (5 if i >= 4 else None)
    assert "in call 5 of the net" in p.report().notes[0]
    with initfast.Profiler(net) as p:
        net(torch.ones(2, 4)).sum().backward()
        (net(torch.ones(2, 4)).sum() * math.inf).backward()
    assert p.first_nonfinite_call == 2 and "in call 2 of the net" in str(p.report())


def test_a_profiler_without_its_with_says_so():
    net = nn.Linear(4, 4)
    p = initfast.Profiler(net)
    net(torch.ones(2, 4))
    assert "`with initfast.Profiler(net) as p:`" in p.report().notes[0]
