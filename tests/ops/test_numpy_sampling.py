"""The sampler without kernels gives the reference's bits."""

import math

import numpy as np
import pytest
import torch
from cases.streams import same_bits

from initfast.ops import numpy_sampling, reference_sampling
from initfast.ops.quantile_tables import truncated_normal

INF = math.inf


def normal(dtype=torch.float32, low=-INF, high=INF):
    """The shape and the table of a normal distribution."""
    table = truncated_normal(low, high, dtype)
    return table.shape, table.coefficients


def both(out, *arguments, strides=None):
    strides = numpy_sampling._dense(out.shape) if strides is None else strides
    ours, theirs = out.clone(), out.clone()
    numpy_sampling.sample_(ours, *arguments, strides)
    reference_sampling.sample_(theirs, *arguments, strides)
    return ours, theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    "shape, offset", [((0,), 0), ((), 1), ((7, 3), 16383), ((7, 3), 2**33 + 5), ((130, 131), 3)]
)
def test_the_bits_are_the_references(dtype, shape, offset):
    out = torch.empty(shape, dtype=dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    unit = 2.0**-64 if dtype == torch.float64 else 2.0**-32
    for rest in (
        (*normal(wide), 0.02, 0.5, -INF, INF),
        (*normal(wide), 1.0, 0.0, -1.5, 0.0),
        (*normal(wide, -1.0, 3.0), 1.0, 0.0, -1.0, 3.0),
        (*normal(wide, 2.0, 3.0), 1.0, 2.0, 2.0, 3.0),
        ("uniform", None, unit, 0.5, 0.0, 1.0),
    ):
        assert same_bits(*both(out, *rest, -(2**62) + 12345, offset))


@pytest.mark.parametrize(
    "scale, location", [(1e-38, 0.0), (1e-45, 1e-44), (3e38, 3e38), (0.0, -0.0)]
)
def test_the_ends_of_the_range(scale, location):
    arguments = (*normal(), scale, location, -INF, INF, 7, 0)
    assert same_bits(*both(torch.empty(5000), *arguments))


def test_a_part_of_a_larger_tensor_and_other_layouts():
    arguments = (*normal(), 1.0, 0.0, -INF, INF, 3, 11)
    assert same_bits(*both(torch.empty(6, 5), *arguments, strides=[100, 1]))
    ours, theirs = torch.empty(5, 6).t(), torch.empty(5, 6).t()
    numpy_sampling.sample_(ours, *arguments, [5, 1])
    reference_sampling.sample_(theirs, *arguments, [5, 1])
    assert same_bits(ours.contiguous(), theirs.contiguous())


def test_a_sum_that_two_roundings_would_get_wrong():
    """(1 + 2^-12)^2 is the middle of two float32 numbers; float64 loses a summand of 2^-60."""
    a = np.float32([1 + 2**-12] * 3)
    c = np.array([2.0**-60, 0.0, -(2.0**-60)])
    result = numpy_sampling._fma(a, a.astype(float), c)
    assert result.tolist() == [1 + 2**-11 + 2**-23, 1 + 2**-11, 1 + 2**-11]
    naive = (a * a.astype(float) + c).astype(np.float32)
    assert naive[0] != result[0]
