"""The numbers of mean-field theory that are known in closed form, or from another quadrature."""

import itertools
import math

import numpy as np
import pytest
import torch

from initfast.theory.mean_field import expectation, mean_field_stds


def by_hermite(f):
    """E[f(Z)] by Gauss-Hermite quadrature, for a smooth f."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    return float((weights * f(nodes)).sum() / weights.sum())


@pytest.mark.parametrize(
    "f, expected",
    [
        (torch.ones_like, 1.0),
        (lambda z: z, 0.0),
        (torch.square, 1.0),
        (lambda z: z**4, 3.0),
        (torch.cos, math.exp(-0.5)),
        (torch.exp, math.exp(0.5)),
        (lambda z: torch.tanh(z).square(), 0.394294),
    ],
)
def test_expectations_of_smooth_functions(f, expected):
    assert expectation(f) == pytest.approx(expected, abs=1e-6)


def test_the_expectation_of_tanhs_square_to_twelve_digits():
    exact = by_hermite(lambda z: np.tanh(z) ** 2)
    assert expectation(lambda z: torch.tanh(z).square()) == pytest.approx(exact, rel=1e-12)


def test_expectations_where_there_is_a_kink():
    """He et al. 2015: relu passes on half of the second moment, and a mean of 1 / √(2π)."""
    assert expectation(lambda z: torch.relu(z).square()) == pytest.approx(0.5, abs=1e-9)
    assert expectation(torch.relu) == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-4)
    assert expectation(torch.abs) == pytest.approx(math.sqrt(2 / math.pi), abs=1e-4)


def test_relu_holds_the_second_moment_at_a_gain_of_root_2():
    """Its second moment is 1 at every layer, of which the mean's square is 1 / π."""
    expected = math.sqrt(1 - 1 / math.pi)
    assert mean_field_stds(torch.relu, 2.0, 5) == pytest.approx([expected] * 5, abs=1e-4)


@pytest.mark.parametrize("v", [0.5, 1.0, 4.0])
def test_without_an_activation_the_variance_is_multiplied_by_v(v):
    expected = [v ** (k / 2) for k in range(1, 9)]
    assert mean_field_stds(lambda z: z, v, 8) == pytest.approx(expected, rel=1e-9)


def test_tanh_at_its_critical_gain_goes_to_zero_as_a_root_of_the_depth():
    """q -> q - 2 q² near zero, so that q is 1 / (2 depth) in the end (Schoenholz et al. 2017)."""
    stds = mean_field_stds(torch.tanh, 1.0, 1000)
    assert stds[0] == pytest.approx(math.sqrt(0.394294), abs=1e-6)
    assert all(b < a for a, b in itertools.pairwise(stds))
    assert stds[-1] * math.sqrt(2 * 1000) == pytest.approx(1.0, rel=0.02)


def test_tanh_beyond_its_critical_gain_goes_to_a_fixed_point():
    v = (5 / 3) ** 2
    q = mean_field_stds(torch.tanh, v, 200)[-1] ** 2
    assert 0.1 < q < 1
    assert by_hermite(lambda z: np.tanh(math.sqrt(v * q) * z) ** 2) == pytest.approx(q, rel=1e-9)
