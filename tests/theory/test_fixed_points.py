"""Fixed points against 25-digit ones, and what there is none of."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from initfast.errors import ArgumentError
from initfast.theory import (
    NoSuchPoint,
    correlation_map,
    fixed_point,
    gain,
    half_stable,
    q_slope,
    variance_map,
)


def relu_squared(x):
    return torch.relu(x) ** 2


# By mpmath at 25 digits: sigma_w², sigma_b², q, chi, the variance map's slope.
KNOWN = [
    ("tanh", 6.25, 0.09, 4.079123875282246, 1.585224765006, 0.23392204558259),
    ("tanh", 16, 0.09, 12.60414949784429, 2.3672610355459, 0.13008210232623),
    ("tanh", 4, 0.05, 2.195493928034488, 1.3424024144452, 0.31819509940455),
    ("tanh", 2.5, 0.05, 1.063958377416812, 1.1335156987043, 0.42846385094644),
    (torch.erf, 6.25, 0.09, 4.555461687288442, 1.8150666651889, 0.1795154208915),
]

# By Gauss-Hermite quadrature, where that is good to 1e-9: also c and xi_c.
ORDERED_AND_CHAOTIC = [
    ("tanh", 1.69, 0.09, 0.6070467919, 1.0, 0.939807429, 16.10817274),
    (torch.erf, 1.69, 0.09, 0.8053181475, 0.8292435489, 1.0473096963, 24.05414751),
    ("tanh", 1.0, 0.05, 0.1935925202, 1.0, 0.759031647, 3.626975618),
    ("tanh", 1.7, 0.05, 0.5330756279, 1.0, 0.986740809, 74.9182705),
    ("tanh", 2.0, 0.05, 0.7217618727, 0.7440824195, 1.0476659996, 25.21341479),
    ("tanh", 2.5, 0.05, 1.0639583774, 0.4468042323, 1.1335156987, 11.7955976),
]


@pytest.mark.parametrize("f, w2, b2, q, chi, slope", KNOWN)
def test_fixed_points_of_the_variance(f, w2, b2, q, chi, slope):
    point = fixed_point(f, math.sqrt(w2), math.sqrt(b2))
    assert point.q == pytest.approx(q, rel=1e-12)
    assert point.chi == pytest.approx(chi, rel=1e-12)
    assert point.q_slope == pytest.approx(slope, rel=1e-12)
    assert point.xi_q == pytest.approx(-1 / math.log(slope), rel=1e-12)
    assert (point.stability, point.phase) == ("stable", "chaotic")


@pytest.mark.parametrize("f, w2, b2, q, c, chi, xi_c", ORDERED_AND_CHAOTIC)
def test_fixed_points_of_the_correlation(f, w2, b2, q, c, chi, xi_c):
    point = fixed_point(f, math.sqrt(w2), math.sqrt(b2))
    assert point.q == pytest.approx(q, rel=1e-9)
    assert point.c == pytest.approx(c, rel=1e-9)
    assert point.chi == pytest.approx(chi, rel=1e-9)
    assert point.xi_c == pytest.approx(xi_c, rel=1e-8)
    assert point.phase == ("chaotic" if c < 1 else "ordered")
    if c == 1:
        assert point.c_slope == point.chi


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["tanh", "hardtanh", "elu"]), st.floats(0.3, 3.0), st.floats(0.01, 1.0))
def test_a_fixed_point_is_one(name, sigma_w, sigma_b):
    try:
        point = fixed_point(name, sigma_w, sigma_b)
    except NoSuchPoint:
        assert name == "elu" and sigma_w >= 1  # which is linear above 0
        return
    assert variance_map(name, point.q, sigma_w, sigma_b) == pytest.approx(point.q, rel=1e-11)
    assert point.stability == "stable"
    there = correlation_map(name, point.c, point.q, sigma_w, sigma_b)
    assert there == pytest.approx(point.c, abs=1e-10)
    assert 0 <= point.c <= 1 and abs(point.c_slope) <= 1 + 1e-9
    assert (point.c < 1) == (point.chi > 1 + 1e-11)


def test_erfs_correlation_in_closed_form():
    q, w2, b2 = KNOWN[-1][3], 6.25, 0.09
    c = fixed_point(torch.erf, 2.5, 0.3).c
    mapped = w2 * 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q)) + b2
    assert mapped / q == pytest.approx(c, rel=1e-12)


def test_tanhs_correlation_by_the_trapezoidal_rule():
    point = fixed_point("tanh", 4.0, 0.3)
    z = np.arange(-12, 12.01, 0.03)
    weight = np.exp(-z * z / 2) * 0.03 / math.sqrt(2 * math.pi)
    root = math.sqrt(point.q)
    v = np.tanh(root * (point.c * z[:, None] + math.sqrt(1 - point.c**2) * z))
    mapped = 16 * ((weight * np.tanh(root * z)) @ v @ weight) + 0.09
    assert mapped / point.q == pytest.approx(point.c, rel=1e-11)


@pytest.mark.parametrize(
    "f, slope, layers",
    [("gelu", 1.144, 21), ("silu", 1.173, 17), ("mish", 1.076, 38), ("hardswish", 1.224, 14),
     (relu_squared, 2.0, 4)],
)  # fmt: skip
def test_the_unit_gain_is_an_unstable_point(f, slope, layers):
    point = fixed_point(f, gain(f), 0.0)
    assert point.q == 1 and point.stability == "unstable" and point.xi_q < 0
    assert point.q_slope == pytest.approx(slope, abs=5e-4) == pytest.approx(q_slope(f), abs=5e-4)
    assert round(point.layers_held(256)) == layers
    assert math.isinf(fixed_point("tanh", gain("tanh"), 0.0).layers_held(256))


def test_beside_an_unstable_point_the_variance_fades_or_grows():
    factor = gain("gelu")
    assert fixed_point("gelu", factor, 0.0, start=0.9).q == 0
    with pytest.raises(NoSuchPoint, match=r"under gelu .* grows from 1\.1 past 1e\+12"):
        fixed_point("gelu", factor, 0.0, start=1.1)


def test_every_variance_of_relu_is_a_fixed_point():
    for start in (1e-3, 1.0, 50.0):
        point = fixed_point("relu", math.sqrt(2), 0.0, start)
        assert (point.q, point.c, point.stability) == (start, 1.0, "neutral")
        assert math.isinf(point.xi_q) and math.isinf(point.xi_c)
    with pytest.raises(NoSuchPoint, match=r"grows from .* past 1e\+12"):
        fixed_point("relu", math.sqrt(2), 0.1)
    assert fixed_point("relu", 1.3, 0.1).q == pytest.approx(0.01 / (1 - 0.845), rel=1e-12)


def test_a_point_that_two_make_together_is_found():
    """From above the variance comes to GELU's half-stable point, and stays."""
    point = half_stable("gelu")
    there = fixed_point("gelu", point.sigma_w, point.sigma_b, start=5.0)
    assert there.q == pytest.approx(3.56155281280883, rel=1e-5)
    assert there.chi == pytest.approx(1, abs=1e-6)
    below = fixed_point("gelu", point.sigma_w, point.sigma_b)
    assert below.stability == "stable" and below.q == pytest.approx(3.03498, abs=1e-5)


def test_a_signal_that_fades_has_no_correlation():
    point = fixed_point("tanh", 0.9, 0.0)
    assert point.q == 0 and math.isnan(point.c) and math.isnan(point.xi_c)
    assert point.chi == pytest.approx(0.81, rel=1e-9) == pytest.approx(point.q_slope, rel=1e-9)
    for f in ("tanh", "sigmoid"):
        assert fixed_point(f, 0.0, 0.0).q == 0
    assert fixed_point("tanh", 0.0, 0.5).q == pytest.approx(0.25, rel=1e-15)


def test_a_jump_is_always_chaotic():
    point = fixed_point(torch.sign, 2.0, 0.1)
    assert point.q == pytest.approx(4.01, rel=1e-12) and math.isinf(point.chi)
    mapped = (4 * 2 / math.pi * math.asin(point.c) + 0.01) / 4.01
    assert mapped == pytest.approx(point.c, rel=1e-9)


@pytest.mark.parametrize(
    "call, kind, reason",
    [
        (lambda: fixed_point("tanh", -1.0, 0.1), ArgumentError, "sigma_w is -1.0"),
        (lambda: fixed_point("tanh", 1.0, math.nan), ArgumentError, "sigma_b is nan"),
        (lambda: fixed_point("tanh", 1.0, 0.1, 0.0), ArgumentError, "start is 0.0"),
        (lambda: fixed_point(torch.exp, 1.0, 0.0), NoSuchPoint, "under exp grows from 1 on: exp"),
        (lambda: fixed_point("tanh", 1.0, 0.1).layers_held(0), ArgumentError, "width is 0"),
    ],
)
def test_what_there_is_none_of_is_explained(call, kind, reason):
    with pytest.raises(kind, match=reason):
        call()
