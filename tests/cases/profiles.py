"""What the tests of profile() share: inputs, the output of a profiled net, comparisons."""

import copy

import pytest
import torch
from torch import nn

from initfast.profiling.profile import profile

WIDTH = 12


def batch(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def output_of(net, x):
    """What net returns while it is profiled, and the report."""
    kept = []
    handle = net.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        report = profile(net, x)
    finally:
        handle.remove()
    return kept[0], report


def close(moments, truth, atol=0.0):
    """Whether moments are those of the float64 tensor truth."""
    finite = truth[truth.isfinite()]
    assert moments.count == truth.numel()
    assert moments.nonfinite == truth.numel() - finite.numel()
    assert moments.mean == pytest.approx(finite.mean().item(), rel=1e-4, abs=1e-5 + atol)
    assert moments.std == pytest.approx(finite.std().item(), rel=1e-4, abs=1e-6 + atol)
    assert moments.min == pytest.approx(finite.min().item(), rel=1e-4, abs=1e-5 + atol)
    assert moments.max == pytest.approx(finite.max().item(), rel=1e-4, abs=1e-5 + atol)
    return True


def linear(n_in=5, n_out=7, dtype=torch.float32):
    torch.manual_seed(3)
    return nn.Linear(n_in, n_out, dtype=dtype)


def x_of(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def run(function, *args):
    """What function returns while it is profiled, and the report."""
    kept = []

    def keep(*inputs):
        kept.append(function(*inputs))
        return kept[0]

    report = profile(keep, args)
    return kept[0], report


def same(function, *args, ops=None):
    """Profiled and plain, function returns the same; returns the report."""
    plain_args, args = copy.deepcopy(args), copy.deepcopy(args)
    with torch.no_grad():
        expected = function(*plain_args)
    actual, report = run(function, *args)
    torch.testing.assert_close(actual, expected, equal_nan=True)
    torch.testing.assert_close(args, plain_args, equal_nan=True)
    if ops is not None:
        assert [layer.op for layer in report] == ops
    return report


class Loop(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.act = act

    def forward(self, x):
        for linear in self.linears:
            x = self.act(linear(x))
        return x


class Returns(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)
