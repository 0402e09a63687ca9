"""unit_moments: count, mean, m2 and largest magnitude of each unit, by kernels and reference."""

import math

import numpy as np
import pytest
import torch
from cases.operators import DTYPES, SHAPES, layouts

from initfast import ops
from initfast.ops import reference
from initfast.ops.schemas import LIBRARY

NATIVE = LIBRARY.backend == "native"
UNIT_MOMENTS = torch.ops.initfast.unit_moments


def bound(dtype):
    """How far off m2 may be, of itself, and the mean, of the standard deviation."""
    return 1e-9 if dtype == torch.float64 or not NATIVE else 4e-6


def assert_units(units, x, unit_dim, rel):
    """Hold the four rows to x's own numbers in longdouble, unit by unit."""
    values = x.detach().double().numpy().astype(np.longdouble)
    values = values[None] if x.dim() == 0 else np.moveaxis(values, unit_dim, 0)
    values = values.reshape(len(values), math.prod(values.shape[1:]))
    assert units.shape == (4, len(values)) and units.dtype == torch.float64
    for value, (count, mean, m2, largest) in zip(values, units.t().tolist(), strict=True):
        finite = value[np.isfinite(value)]
        assert count == finite.size and largest == np.abs(finite).max(initial=0)
        if not finite.size:
            assert (mean, m2) == (0, 0)
            continue
        exact = finite[0] + (finite - finite[0]).mean()
        spread = np.square(finite - exact).sum()
        assert abs(mean - exact) <= rel * np.sqrt(spread / count) + 1e-15 * abs(exact)
        assert abs(m2 - spread) <= rel * spread
        assert m2 == 0 or (value != value[0]).any()


def both(x, unit_dim):
    """What the operator returns, after the reference was held to the same numbers."""
    row, units = ops.unit_moments(x, unit_dim)
    assert_units(reference.unit_moments(x, unit_dim, False)[1], x, unit_dim, 1e-9)
    assert torch.equal(row.nan_to_num(7.0), ops.moments(x).nan_to_num(7.0))
    return units


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_layout_and_dimension(shape, dtype):
    for name, x in layouts(shape, dtype).items():
        for dim in range(-x.dim(), x.dim()) or [-1]:
            assert_units(ops.unit_moments(x, dim)[1], x, dim, bound(dtype)), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(9, 70), (513, 37), (2, 33, 65), (3, 5, 7, 7), (1, 2, 40, 41)])
def test_units_with_nonfinite_values_have_the_moments_of_the_others(shape, dtype):
    x = torch.randn(shape, dtype=torch.float64)
    flat = x.view(-1)
    flat[::5] = torch.inf
    flat[[0, 3, -1]] = torch.nan  # among them the first unit's first value
    x = x.to(dtype)
    for dim in (0, 1, -1):
        assert_units(both(x, dim), x, dim, bound(dtype))
    assert both(torch.full((6, 20), torch.nan, dtype=dtype), 1).tolist() == [[0.0] * 20] * 4


@pytest.mark.parametrize("scale", [1e-44, 1e-37, 1e-20, 1.0, 1e20, 1e37])
def test_every_scale(scale):
    for x in (torch.randn(3000, 19), torch.randn(40, 6, 9, 9) + 1):
        x = x * scale
        assert_units(both(x, 1), x, 1, bound(x.dtype))


@pytest.mark.parametrize("scale", [1e-140, 1e140])
def test_float64_at_its_limits(scale):
    x = torch.randn(700, 11, dtype=torch.float64) * scale
    assert_units(both(x, -1), x, -1, bound(x.dtype))


@pytest.mark.parametrize("row", [0, 1000, -1])
def test_a_mean_far_from_zero_and_a_row_far_from_the_mean(row):
    """As the first token of a language model is: the sums are not about it."""
    x = 1e4 + torch.randn(2000, 40)
    assert_units(both(x, -1), x, -1, bound(x.dtype))
    x[row] += 1000
    assert_units(both(x, -1), x, -1, bound(x.dtype))


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 100_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_unit_that_is_the_same_for_every_row_has_an_m2_of_exactly_0(rows, dtype):
    largest = 1e37 if dtype != torch.float16 else 3e4
    row = torch.tensor([0.1, 1 / 3, -largest, 0.0, 7.0, 1e-3, 9.0], dtype=torch.float64).to(dtype)
    x = row.expand(rows, 7).contiguous()
    units = both(x, -1)
    assert units[2].tolist() == [0.0] * 7 and torch.equal(units[1], row.double())
    assert torch.equal(units[3], row.double().abs())
    assert torch.equal(both(x.t().contiguous(), 0), units)


@pytest.mark.skipif(not NATIVE, reason="the reference is plain PyTorch")
def test_large_tensors_are_read_once():
    """From 2^19 numbers on, both kinds of moments are taken chunk by chunk."""
    shapes = [
        (5000, 300),
        (1_000_000, 1),
        (300_000, 3),
        (8192, 65),
        (40, 130_000),
        (64, 128, 11, 12),
    ]
    for shape in shapes:
        x = torch.randn(shape)
        x.view(-1)[1234] = torch.nan
        row, units = UNIT_MOMENTS(x, 1, True)
        nothing, alone = UNIT_MOMENTS(x, 1, False)
        assert nothing.numel() == 0 and torch.allclose(units, alone, rtol=4e-6, atol=2e-6)
        assert torch.equal(row, ops.moments(x))
        expected = reference.unit_moments(x, 1, False)[1]
        assert torch.allclose(units[1:3], expected[1:3], rtol=4e-6, atol=2e-6)
        assert torch.equal(units[::3], expected[::3])


@pytest.mark.skipif(not NATIVE, reason="plain PyTorch's own sums depend on its threads")
def test_same_bits_at_any_number_of_threads():
    tensors = [torch.randn(2000, 300), torch.randn(16, 64, 30, 30), torch.randn(70, 513)]
    expected = [ops.unit_moments(x, 1)[1] for x in tensors]
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            assert all(map(torch.equal, (ops.unit_moments(x, 1)[1] for x in tensors), expected))
    finally:
        torch.set_num_threads(threads)


def test_opcheck():
    tests = (
        "test_schema",
        "test_faketensor",
        "test_aot_dispatch_dynamic",
        "test_autograd_registration",
    )
    for x in (torch.randn(3, 8), torch.randn(2, 3, 4, requires_grad=True)):
        for with_moments in (False, True):
            torch.library.opcheck(UNIT_MOMENTS.default, (x, 1, with_moments), test_utils=tests)


def test_no_gradient_flows():
    row, units = ops.unit_moments(torch.randn(3, 4, requires_grad=True))
    assert not row.requires_grad and not units.requires_grad


def test_a_list_is_no_tensor():
    with pytest.raises(TypeError, match="unit_moments: x is a list; expected a tensor"):
        ops.unit_moments([1.0])
