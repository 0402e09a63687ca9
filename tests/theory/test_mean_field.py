"""The maps of variance and gradient, against closed forms and a net of width 2048."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from initfast.errors import ArgumentError
from initfast.theory import chi, correlation_map, gain, mean_field_stds, q_slope, variance_map

WIDTH, DRAWS = 2048, 8


def by_hermite(f):
    """E[f(Z)] by Gauss-Hermite quadrature, for a smooth f."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    return float((weights * f(nodes)).sum() / weights.sum())


def test_relu_holds_the_second_moment_at_a_gain_of_root_2():
    """Its second moment is 1 at every layer, of which the mean's square is 1 / π."""
    expected = math.sqrt(1 - 1 / math.pi)
    assert mean_field_stds(torch.relu, 2.0, 5) == pytest.approx([expected] * 5, rel=1e-13)


@pytest.mark.parametrize("v", [0.5, 1.0, 4.0])
def test_without_an_activation_the_variance_is_multiplied_by_v(v):
    expected = [v ** (k / 2) for k in range(1, 9)]
    assert mean_field_stds(lambda z: z, v, 8) == pytest.approx(expected, rel=1e-13)


def test_tanh_at_its_critical_gain_goes_to_zero_as_a_root_of_the_depth():
    """q -> q - 2 q² near zero, so that q is 1 / (2 depth) in the end (Schoenholz et al. 2017)."""
    stds = mean_field_stds(torch.tanh, 1.0, 1000)
    assert stds[0] == pytest.approx(math.sqrt(0.39429449039784126), rel=1e-13)
    assert all(b < a for a, b in itertools.pairwise(stds))
    assert stds[-1] * math.sqrt(2 * 1000) == pytest.approx(1.0, rel=0.02)


def test_tanh_beyond_its_critical_gain_goes_to_a_fixed_point():
    v = (5 / 3) ** 2
    q = mean_field_stds(torch.tanh, v, 200)[-1] ** 2
    assert 0.1 < q < 1
    assert by_hermite(lambda z: np.tanh(math.sqrt(v * q) * z) ** 2) == pytest.approx(q, rel=1e-9)


@settings(deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(0.0, 10.0), st.floats(0.0, 3.0))
def test_the_maps_of_erf(q, sigma_w, sigma_b):
    """Williams 1997."""
    second = 2 / math.pi * math.asin(2 * q / (1 + 2 * q))
    mapped = variance_map(torch.erf, q, sigma_w, sigma_b)
    assert mapped == pytest.approx(sigma_w**2 * second + sigma_b**2, rel=1e-13)
    factor = chi(torch.erf, q, sigma_w)
    assert factor == pytest.approx(sigma_w**2 * 4 / math.pi / math.sqrt(1 + 4 * q), rel=1e-11)
    slope = 4 / math.pi / ((1 + 2 * q) * math.sqrt(1 + 4 * q))
    assert q_slope(torch.erf, q, sigma_w) == pytest.approx(sigma_w**2 * slope, rel=1e-9)


def test_without_a_sigma_w_it_is_the_gain():
    for name in ("relu", "gelu", "tanh"):
        assert variance_map(name, 1.0) == pytest.approx(1.0, rel=1e-14)
        assert q_slope(name) == q_slope(name, 1.0, gain(name))
        assert chi(name) == chi(name, 1.0, gain(name))


@pytest.mark.parametrize("f", ["relu", "gelu", "tanh", nn.Softshrink(0.3)], ids=str)
def test_a_net_of_width_2048_is_as_predicted(f):
    """One layer: variance, correlation and gradient, each within four standard errors."""
    q, c, sigma_w, sigma_b = 1.7, 0.4, 1.3, 0.2
    act = f if isinstance(f, nn.Module) else getattr(torch.nn.functional, f)
    variance, correlation, gradient = (np.array(column) for column in zip(*[
        layer(act, q, c, sigma_w, sigma_b) for _ in range(DRAWS)
    ], strict=True))  # fmt: skip
    for measured, expected in (
        (variance, variance_map(f, q, sigma_w, sigma_b)),
        (correlation, correlation_map(f, c, q, sigma_w, sigma_b)),
        (gradient, chi(f, q, sigma_w)),
    ):
        error = measured.std(ddof=1) / math.sqrt(DRAWS)
        assert abs(measured.mean() - expected) < 4 * error
        assert error < 0.05 * expected


def layer(act, q, c, sigma_w, sigma_b):
    """What a layer makes of two pre-activations, and of a gradient on the way back."""
    u, v, delta = torch.randn(3, WIDTH)
    v = c * u + math.sqrt(1 - c * c) * v
    z = (math.sqrt(q) * torch.stack([u, v])).requires_grad_()
    weight = torch.randn(WIDTH, WIDTH) * (sigma_w / math.sqrt(WIDTH))
    y = act(z) @ weight.T + sigma_b * torch.randn(WIDTH)
    (gradient,) = torch.autograd.grad((y[0] * delta).sum(), z)
    first, second = y.detach()
    variance = first.square().mean()
    correlation = (first * second).mean() / (variance * second.square().mean()).sqrt()
    ratio = gradient[0].square().sum() / delta.square().sum()
    return variance.item(), correlation.item(), ratio.item()


@pytest.mark.parametrize(
    "call, reason",
    [
        (lambda: variance_map("tanh", 0.0), "q is 0.0; expected a variance, above 0"),
        (lambda: variance_map("tanh", math.nan), "q is nan"),
        (lambda: q_slope("tanh", -1.0), "q is -1.0"),
        (lambda: chi("tanh", math.inf), "q is inf"),
        (lambda: variance_map("tanh", 1.0, -1.0), "sigma_w is -1.0; expected a standard deviation"),
        (lambda: variance_map("tanh", 1.0, 1.0, -0.1), "sigma_b is -0.1"),
        (lambda: variance_map("tanh", 1.0, math.inf), "sigma_w is inf"),
        (lambda: chi("tan"), "unknown activation 'tan'"),
    ],
)
def test_wrong_arguments_are_named(call, reason):
    with pytest.raises(ArgumentError, match=reason):
        call()
