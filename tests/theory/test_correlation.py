"""The correlation map in closed form."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from initfast.errors import ArgumentError
from initfast.theory import chi, correlation_map, variance_map
from initfast.theory.correlation import product
from initfast.theory.mesh import mesh

CORRELATIONS = st.floats(-1.0, 1.0)
RELU_FROM_0 = {
    1: 0.3183098861838,
    2: 0.4937310902004,
    3: 0.6048257201129,
    5: 0.7359463506276,
    10: 0.8715355160215,
    20: 0.948428479156,
}


def leaky(c, slope):
    """Cho & Saul 2009, eq. 6, and what a slope adds to it."""
    bend = (1 - slope) ** 2 / (math.pi * (1 + slope**2))
    return c + bend * (math.sqrt(1 - c * c) - c * math.acos(c))


@settings(deadline=None)
@given(CORRELATIONS, st.floats(-0.9, 3.0))
@example(1 - 1e-12, 0.0)
@example(-1.0, 0.0)
def test_leaky_relu(c, slope):
    assert correlation_map(nn.LeakyReLU(slope), c) == pytest.approx(leaky(c, slope), abs=3e-14)


@settings(deadline=None)
@given(CORRELATIONS, st.floats(1e-3, 1e3))
@example(1 - 1e-9, 5.0)
def test_erf(c, q):
    """Williams 1997."""
    found = product(mesh(torch.erf), c, q)
    share = 2 * q / (1 + 2 * q)
    assert found.mean == pytest.approx(2 / math.pi * math.asin(share * c), rel=1e-13, abs=1e-15)
    slope = 2 / math.pi * share / math.sqrt(1 - (share * c) ** 2)
    beside_1 = 1 - abs(c)
    if beside_1 > 1e-15:
        assert found.slope == pytest.approx(slope, rel=1e-13 + 1e-15 / beside_1)


@settings(deadline=None)
@given(CORRELATIONS)
def test_a_step_and_a_squared_relu(c):
    """Cho & Saul 2009, eq. 5 and 7: the arc-cosine kernels of order 0 and 2."""
    angle = math.acos(c)
    step = product(mesh(lambda x: (x > 0).double()), c, 1.0).mean
    assert step == pytest.approx((math.pi - angle) / (2 * math.pi), abs=1e-13)
    order_2 = 3 * math.sin(angle) * c + (math.pi - angle) * (1 + 2 * c * c)
    squared = product(mesh(lambda x: torch.relu(x) ** 2), c, 1.0).mean
    assert squared == pytest.approx(order_2 / (2 * math.pi), abs=1e-13)


@pytest.mark.parametrize("name, act", [("tanh", np.tanh), ("silu", lambda x: x / (1 + np.exp(-x)))])
@pytest.mark.parametrize("c, q", [(-0.8, 0.3), (0.3, 1.0), (0.97, 2.0), (0.6, 7.0)])
def test_smooth_functions_by_the_trapezoidal_rule(name, act, c, q):
    """Which converges exponentially in two dimensions too."""
    z = np.arange(-12, 12.01, 0.04)
    weight = np.exp(-z * z / 2) * 0.04 / math.sqrt(2 * math.pi)
    other = c * z[:, None] + math.sqrt(1 - c * c) * z
    exact = (weight * act(math.sqrt(q) * z)) @ act(math.sqrt(q) * other) @ weight
    assert product(mesh(name), c, q).mean == pytest.approx(exact, rel=1e-13)


def test_relu_after_many_layers():
    c = 0.0
    for depth in range(1, 21):
        c = correlation_map("relu", c)
        if depth in RELU_FROM_0:
            assert c == pytest.approx(RELU_FROM_0[depth], abs=1e-12)


def test_the_slope_towards_1_is_chi():
    """Of the map without a division by the variance, where the function has no kink."""
    for name in ("tanh", "gelu"):
        near = product(mesh(name), 1 - 1e-6, 1.3).slope / 1.3
        assert near == pytest.approx(chi(name, 1.3, 1.0), rel=1e-5)


def test_opposite_inputs():
    z = np.arange(-12, 12.01, 0.02)
    weight = np.exp(-z * z / 2) * 0.02 / math.sqrt(2 * math.pi)
    exact = weight @ (z / (1 + np.exp(-z)) * -z / (1 + np.exp(z)))
    assert product(mesh("silu"), -1.0, 1.0).mean == pytest.approx(exact, rel=1e-13)
    shifted = mesh(lambda x: (x > -0.3).double())
    expected = math.erf(0.3 / math.sqrt(2))
    assert product(shifted, -1.0, 1.0).mean == pytest.approx(expected, rel=1e-12)


def test_at_1_it_is_1_and_biases_correlate():
    for name in ("tanh", "relu", "softplus"):
        assert correlation_map(name, 1.0, 2.0, 1.5, 0.3) == pytest.approx(1.0, rel=1e-14)
    shared = correlation_map("tanh", 0.0, 2.0, 1.5, 0.3)
    assert shared == pytest.approx(0.09 / variance_map("tanh", 2.0, 1.5, 0.3), rel=1e-13)


@pytest.mark.parametrize("c", [1.01, -2.0, math.nan])
def test_what_is_no_correlation_is_named(c):
    with pytest.raises(ArgumentError, match=f"c is {c}; expected a correlation from -1 to 1"):
        correlation_map("tanh", c)


def test_a_next_layer_of_zeros_has_no_correlation():
    with pytest.raises(ArgumentError, match="tanh at sigma_w 0, sigma_b 0 makes 0 of everything"):
        correlation_map("tanh", 0.5, 1.0, 0.0, 0.0)
