"""Expectations in closed form, of functions with kinks, jumps and singular points too."""

import itertools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from initfast.errors import ArgumentError
from initfast.theory.mesh import Mesh, mesh
from initfast.theory.quadrature import Expectations, expectation

ROOT = math.sqrt(2 * math.pi)


def density(x):
    return math.exp(-x * x / 2) / ROOT


def beyond(x):
    return math.erfc(x / math.sqrt(2)) / 2


@pytest.mark.parametrize(
    "f, expected",
    [
        (torch.ones_like, 1.0),
        (lambda z: z, 0.0),
        (torch.square, 1.0),
        (lambda z: z**4, 3.0),
        (torch.cos, math.exp(-0.5)),
        (torch.exp, math.exp(0.5)),
        (torch.relu, 1 / ROOT),
        (torch.abs, 2 / ROOT),
        (lambda z: torch.relu(z).square(), 0.5),
        (lambda z: (z > 0).double(), 0.5),
        (lambda z: torch.exp(z * z / 5), math.sqrt(5 / 3)),
        (
            lambda z: torch.exp(-1e4 * (z - 0.7) ** 2),
            math.exp(-0.49 / (2 + 1e-4)) / math.sqrt(20001),
        ),
        (lambda z: z.abs().sqrt(), math.gamma(0.75) * 2**0.25 / math.sqrt(math.pi)),
    ],
)
def test_expectations_in_closed_form(f, expected):
    assert expectation(f) == pytest.approx(expected, rel=1e-13, abs=1e-15)


def test_a_logarithmic_pole_is_integrated():
    euler = 0.57721566490153286
    assert expectation(lambda z: z.abs().log()) == pytest.approx(-(euler + math.log(2)) / 2, 1e-12)


@settings(deadline=None)
@given(st.floats(1e-3, 4.0))
@example(1 + 1e-9)
@example(0.1 + 0.2)
@example(2 * (1 - 7.7e-15))
def test_kinks_are_found_wherever_they_are(at):
    shrink = Expectations(mesh(nn.Softshrink(at)))
    assert shrink.second == pytest.approx(2 * ((1 + at**2) * beyond(at) - at * density(at)), 1e-11)
    assert shrink.squared_slope == pytest.approx(2 * beyond(at), rel=1e-12, abs=2e-12)


@settings(deadline=None)
@given(st.floats(-4.0, 4.0))
@example(1 + 1e-13)
@example(0.0)
@example(1e-5)
@example(3.7e-32)
def test_jumps_are_found_wherever_they_are(at):
    step = Expectations(mesh(lambda x: (x > at).double()))
    assert step.second == pytest.approx(beyond(at), rel=1e-12)
    assert step.mesh.jumps(32.0) == pytest.approx([at], rel=1e-13, abs=1e-25)
    assert math.isinf(step.squared_slope)


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(1e-6, 1e6))
def test_any_mean_and_std(mean, std):
    around = Expectations(mesh(lambda z: z), mean, std)
    assert around.first == pytest.approx(mean, rel=1e-12, abs=1e-12 * std)
    assert around.second == pytest.approx(mean**2 + std**2, rel=1e-12)
    assert around.variance == pytest.approx(std**2, rel=1e-9 + 1e-14 * abs(mean) / std)
    relu = expectation("relu", mean, std)
    expected = mean * beyond(-mean / std) + std * density(mean / std)
    assert relu == pytest.approx(expected, rel=1e-9, abs=1e-12 * std)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["tanh", "gelu", "elu", "hardswish"]), st.floats(1e-3, 1e3))
def test_the_slope_by_the_variance_is_that_of_differences(name, q):
    def second(variance):
        return Expectations(mesh(name), 0.0, math.sqrt(variance)).second

    step = 1e-4 * q
    differences = (second(q + step) - second(q - step)) / (2 * step)
    slope = Expectations(mesh(name), 0.0, math.sqrt(q)).slope_of_second
    assert slope == pytest.approx(differences, rel=1e-5, abs=1e-12 / q)


@settings(deadline=None)
@given(st.floats(1e-5, 3.0))
@example(0.001077)
def test_a_hole_about_zero_is_found(width):
    hole = mesh(nn.Hardshrink(width))
    assert hole.jumps(32.0) == pytest.approx([-width, width], rel=1e-12)
    second = 2 * (beyond(width) + width * density(width))
    assert Expectations(hole).second == pytest.approx(second, rel=1e-12)


def test_a_mesh_serves_every_variance():
    found = mesh("tanh")
    assert found is mesh("tanh") and isinstance(found, Mesh) and mesh(found) is found
    for low, high in itertools.pairwise(10.0**k for k in range(-8, 9)):
        small, large = (Expectations(found, 0.0, std).second for std in (low, high))
        assert 0 < small < large <= 1


@pytest.mark.parametrize(
    "f, reason",
    [
        (lambda z: torch.exp(z * z / 4), "second moment that float64 holds"),
        (lambda z: torch.where(z == 0, 0.0, 1 / z), "second moment that float64 holds"),
        (lambda z: (z.abs() + 1e-200) ** -0.5, "second moment that float64 holds"),
        (torch.sqrt, "sqrt is nan at -"),
        (lambda z: torch.exp(z * z), "is inf at"),
        (lambda z: z.float().tanh().double(), "expected a function computed in float64"),
        (lambda z: torch.sin(1e9 * z), "changes too often"),
    ],
)
def test_what_has_no_second_moment_says_so(f, reason):
    with pytest.raises(ArgumentError, match=reason):
        _ = Expectations(mesh(f)).second


def test_a_cusp_has_no_squared_slope():
    with pytest.raises(ArgumentError, match="no mean squared slope that float64 holds"):
        _ = Expectations(mesh(lambda z: z.abs().sqrt())).squared_slope
