"""Histograms: every number in its bin, at any scale, and merging as if counted at once."""

import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

import initfast
from initfast.recording import histograms
from initfast.report.report import Report
from initfast.stats.histogram import HALF_OCTAVES, Histogram


def counted(x):
    return histograms.read(histograms.half_octaves(x))


def plainly(x, found):
    """The numbers in each of the 65 bins by its ends: on the right of zero the upper is within."""
    x = x[x.isfinite()].double()
    counts = []
    for i, (low, high) in enumerate(pairwise(found.edges)):
        if i < HALF_OCTAVES:
            counts.append(int(((x >= low) & (x < high)).sum()))
        elif i == HALF_OCTAVES:
            counts.append(int(((x >= low) & (x <= high)).sum()))
        else:
            counts.append(int(((x > low) & (x <= high)).sum()))
    return counts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e-3, 1.0, 1e4, 1e37])
@pytest.mark.parametrize("draw", [torch.randn, torch.rand], ids=["normal", "uniform"])
def test_every_number_is_in_its_bin(dtype, scale, draw):
    x = (draw(3, 1000).double() * scale).to(dtype)
    found = counted(x)
    ours = [*found.counts[:HALF_OCTAVES], found.near_zero, *found.counts[HALF_OCTAVES:]]
    assert ours == plainly(x, found) and found.total == x.isfinite().sum()
    largest = max(x[x.isfinite()].abs().tolist(), default=0.0)
    assert found.edges[-2] < largest <= found.edges[-1] or not largest


def test_ends_subnormal_numbers_and_what_is_not_finite():
    tiny, huge = 2.0**-149, torch.finfo(torch.float32).max
    x = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.75, 0.5, 1e-9, math.nan, math.inf, -math.inf])
    found = counted(x)
    assert found.near_zero == 3 and found.total == 7
    assert found.counts[-1] == 1 and found.counts[0] == 1 and found.edges[-1] == 1.0
    assert found.counts[-3:] == (1, 1, 1) and found.edges[-4:] == [0.375, 0.5, 0.75, 1.0]
    assert counted(torch.tensor([tiny, -tiny])).counts[0::63] == (1, 1)
    assert counted(torch.tensor([huge, tiny])).near_zero == 1
    assert counted(torch.tensor([5e-324, 1.7e308], dtype=torch.float64)).total == 2
    for empty in (torch.empty(0), torch.zeros(5), torch.full((2,), math.nan)):
        found = counted(empty)
        assert sum(found.counts) == 0 and found.near_zero == found.total == (empty == 0).sum()
        assert all(map(math.isfinite, found.densities))


def test_merging_is_counting_at_once():
    parts = [torch.randn(50) * 10.0 ** torch.randint(-12, 12, ()).item() for _ in range(40)]
    parts += [torch.zeros(3), torch.empty(0), torch.tensor([math.inf, -2.0])]
    together = Histogram()
    for part in parts:
        together = together.merge(counted(part))
    assert together == counted(torch.cat(parts))
    backwards = Histogram()
    for part in reversed(parts):
        backwards = counted(part).merge(backwards)
    assert backwards == together


def test_large_tensors_are_counted_in_parts(monkeypatch):
    x = torch.randn(5, 7, 11).transpose(0, 2)
    whole = counted(x)
    monkeypatch.setattr(histograms, "_BLOCK", 13)
    assert counted(x) == whole and whole.total == 385


@pytest.mark.parametrize("loss", [None, lambda y: y.square().mean()], ids=["forward", "backward"])
def test_a_profile_counts_every_output(loss):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    net.extend([nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(inplace=True)])
    x = torch.randn(5, 3, 6, 6)
    report = initfast.profile(net, x, measure=("histograms",), loss=loss)
    plain = initfast.profile(net, x, loss=loss)
    assert [(a.name, a.op, a.shape) for a in report] == [(a.name, a.op, a.shape) for a in plain]
    assert all(layer.histogram.total == layer.post.finite for layer in report)
    with torch.no_grad():
        assert report[-1].histogram == counted(net(x))
    again = Report.from_dict(json.loads(report.to_json()))
    assert [a.histogram for a in again] == [a.histogram for a in report]


def test_a_profiler_merges_them_exactly():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    batches = [scale * torch.randn(3, 4) for scale in (1.0, 1e-4, 100.0)]
    with initfast.Profiler(net, measure="histograms") as p, torch.no_grad():
        outputs = [net(x) for x in batches]
    assert p.report()[0].histogram == counted(torch.cat(outputs))
