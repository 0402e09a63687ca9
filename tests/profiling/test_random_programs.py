"""profile(): random programs compute the same, and are measured as float64 does."""

import copy
import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import batch, output_of
from cases.switches import times
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from initfast.profiling.profile import profile
from initfast.stats.moments import Moments

ACTS = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "relu_": lambda z: F.relu(z, inplace=True),
    "gelu": F.gelu,
    "silu_": lambda z: F.silu(z, inplace=True),
    "sigmoid": torch.Tensor.sigmoid,
    "leaky": lambda z: F.leaky_relu(z, 0.1),
}


class Program(nn.Module):
    """A random straight-line program over a handful of tensors, some changed in place."""

    def __init__(self, steps, width, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.steps = steps
        self.linears = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        slots = [x.clone(), x * 0.5, x + 1]
        self.trace_at_call = []
        for kind, a, b, which in self.steps:
            if kind == "linear":
                slots[b] = self.linears[which](slots[a])
            elif kind == "add":
                slots[b] = slots[a] + slots[b]
            elif kind == "add_":
                slots[b].add_(slots[a], alpha=0.5)
            elif kind == "set":
                slots[b][0] = 0.25
            elif kind == "weight":
                self.linears[which].bias.add_(0.1)
            elif kind == "view":
                slots[b] = slots[a].view(-1, slots[a].shape[-1])
            else:
                slots[b] = ACTS[kind](slots[a])
                self.trace_at_call.append(slots[b].detach().double().clone())
        return tuple(slot.clone() for slot in slots)


KINDS = ["linear"] * 6 + ["add", "add_", "set", "weight", "view", *ACTS]
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=times(150, 7000), deadline=None, derandomize=True)
@given(STEPS, st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_random_programs_compute_the_same(steps, width, rows, seed):
    x = batch(rows, width)
    net = Program(steps, width, seed)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        expected = twin(x)
    output, report = output_of(net, x)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    # Each activation's own layer, in order, holds the moments of what it returned.
    acted = [layer for layer in report if layer.op not in NOT_ACTS]
    assert len(acted) == len(twin.trace_at_call)
    for layer, truth in zip(acted, twin.trace_at_call, strict=True):
        scale = 1e-4 * truth.abs().max().item()
        assert layer.post.mean == pytest.approx(truth.mean().item(), rel=1e-4, abs=1e-5 + scale)
        if truth.numel() > 1:
            assert layer.post.std == pytest.approx(truth.std().item(), rel=1e-3, abs=1e-5 + scale)


NOT_ACTS = ["linear", "add", "add_scaled", "Program", *(f"Program[{i}]" for i in range(3))]


@settings(max_examples=times(60, 3000), deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.sampled_from(sorted(ACTS))), min_size=1, max_size=8),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.booleans(),
)
def test_random_mlps_are_measured_as_float64_does(sizes, leading, bias):
    torch.manual_seed(len(sizes))
    x = batch(*leading, sizes[0][0])
    widths = [n for n, _ in sizes]
    linears = [nn.Linear(n, m, bias=bias) for n, m in pairwise(widths)]
    acts = [ACTS[name] for _, name in sizes[1:]]

    def net(x):
        for linear, act in zip(linears, acts, strict=True):
            x = act(linear(x))
        return x

    report = profile(net, x)
    reference = x.double()
    assert len(report) == len(linears)
    for layer, linear, act in zip(report, linears, acts, strict=True):
        with torch.no_grad():
            z = copy.deepcopy(linear).double()(reference)
        reference = act(z.clone())
        for moments, truth in ((layer.pre, z), (layer.post, reference)):
            exact = Moments.of(truth)
            assert moments.count == exact.count and moments.nonfinite == 0
            assert moments.mean == pytest.approx(exact.mean, rel=1e-4, abs=1e-5)
            assert math.isnan(exact.std) or moments.std == pytest.approx(
                exact.std, rel=1e-4, abs=1e-5
            )
            assert moments.max == pytest.approx(exact.max, rel=1e-4, abs=1e-5)
