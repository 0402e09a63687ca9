"""What the tests of real nets share: everything that a profile of a net must hold."""

import copy
from collections import defaultdict

import pytest
import torch
from cases.unchanged import equal, state
from torch import nn

from initfast.nets.pytree import tensors
from initfast.profiling.profile import profile
from initfast.stats.moments import Moments

FUNCTIONS = {"add", "softmax", "log_softmax", "glu"}
"""Layers of a report that are functions in a module's own code, beside the activations."""


def calls(net, *args, **kwargs):
    """The plain forward: its output, and the float outputs of each call of each module."""
    made, handles = defaultdict(list), []
    for name, module in net.named_modules():

        def keep(module, args, output, name=name):
            floats = [t for _, t in tensors(output) if t.dtype.is_floating_point]
            if floats:
                made[name].append([t.detach().double().clone() for t in floats])

        handles.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            output = net(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return output, made


def measures(layer, truth, tolerance):
    """Whether a layer's output, or its pre-activation, has the moments of a float64 tensor."""
    exact = Moments.of(truth)
    scale = exact.rms if exact.finite else 1.0

    def is_that(m):
        return (m.count, m.nonfinite) == (exact.count, exact.nonfinite) and all(
            getattr(m, key) == pytest.approx(getattr(exact, key), rel=tolerance, nan_ok=True)
            if key == "std"
            else abs(getattr(m, key) - getattr(exact, key)) <= tolerance * scale
            for key in (("std", "mean", "min", "max") if exact.finite > 1 else ())
        )

    return is_that(layer.post) or (layer.pre is not None and is_that(layer.pre))


def faithful(net, x, tolerance=1e-4):
    """Profile the net on x, and check everything that does not depend on what it is.

    The output and the state are the plain forward's; every call of every module is in the report
    exactly once, with the moments that float64 gives.
    """
    args, kwargs = ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})
    twin = copy.deepcopy(net)
    torch.manual_seed(7)
    expected, made = calls(twin, *args, **kwargs)
    kept = []
    torch.manual_seed(7)
    handle = net.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        before = state(net)
        report = profile(net, x)
        assert equal(before, state(net))
    finally:
        handle.remove()
    compare_outputs(kept[0], expected, tolerance)
    for name, outputs in made.items():
        rows = [layer for layer in report if name in layer.names]
        for call, (first, *others) in enumerate(outputs):
            found = next((row for row in rows if measures(row, first, tolerance)), None)
            assert found is not None, f"call {call} of {name!r} is not in the report"
            rows.remove(found)
            for truth in others:
                fitting = [row for row in report if measures(row, truth, tolerance)]
                assert fitting, f"an output of call {call} of {name!r} is not in the report"
                rows = [row for row in rows if row is not fitting[0]]
        left = [row.op for row in rows if not is_function(row)]
        assert not left, f"{name!r} has more rows than calls: {left}"
    assert str(report) and report.tree()
    return report


def is_function(layer):
    """Whether a function in a module's own code made it, and not the module's last one."""
    return all(part in FUNCTIONS or part.islower() for part in layer.op.split(" + "))


def compare_outputs(actual, expected, tolerance):
    for (path, a), (other, b) in zip(tensors(actual), tensors(expected), strict=True):
        assert path == other and a.dtype is b.dtype
        if a.dtype.is_floating_point and b.isfinite().any():
            scale = b[b.isfinite()].double().square().mean().sqrt().item()
            torch.testing.assert_close(
                a.double(), b.double(), rtol=tolerance, atol=tolerance * scale, equal_nan=True
            )
        else:
            assert torch.equal(a, b) or a.dtype.is_floating_point


class Swallowing(nn.Module):
    """Catches what its net raises."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        try:
            return self.inner(x)
        except Exception:
            return x
