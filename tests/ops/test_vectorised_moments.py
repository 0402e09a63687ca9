"""What measures without kernels agrees with the specification, to the last place of sums."""

import math

import pytest
import torch

from initfast.ops import reference, reference_moments, reference_units, vectorised_moments

EXACT = [0, 1, 2, 3, 6, 7, 8, 11]  # integers, extremes, smallest
SUMS = {4: 1, 5: 2, 9: 3, 10: 4}  # a column, and the power of the deviations that it sums

VALUES = {
    "as drawn": lambda x: x,
    "rectified": torch.relu,
    "zeros of both signs": lambda x: 0 * x,
    "constant": lambda x: 0 * x + 3,
    "positive": lambda x: x.abs() + 1,
    "negative": lambda x: -x.abs() - 1,
    "far away": lambda x: x + 1e4,
    "subnormal": lambda x: x * 1e-40,
    "large": lambda x: x * 1e37,
    "one run away from the others": lambda x: torch.cat([x[:5] + 1e6, x]),
    "with NaN": lambda x: x.masked_fill(x > 1, math.nan),
    "with -inf": lambda x: x.masked_fill(x > 1, -math.inf),
    "all infinite": lambda x: x * math.inf,
}


def assert_agrees(x):
    saturated = x > 0.5
    ours = vectorised_moments.row_of(x, saturated)
    theirs = reference_moments.row_of(x, saturated)
    assert torch.equal(ours[EXACT], theirs[EXACT])
    finite = x[x.isfinite()].double()
    deviation = (finite - theirs[4]).abs()
    for column, power in SUMS.items():
        size = finite.abs().mean() if power == 1 else (deviation**power).sum()
        error = (ours[column] - theirs[column]).abs()
        assert error <= 1e-12 * size or torch.equal(ours[column], theirs[column]), column


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_rows_of_any_values(dtype, values):
    generator = torch.Generator().manual_seed(0)
    for count in (0, 1, 3, 8193, 20_000):
        x = torch.randn(count, dtype=torch.float64, generator=generator)
        assert_agrees(values(x).to(dtype))


def test_layouts_and_units():
    x = torch.randn(6, 3, 5, 4).relu()
    x[:, 1] = 0
    x[0, 1, 0, 0] = math.nan  # is not zero
    x[:, 2] = 0
    views = (x, x.to(memory_format=torch.channels_last), x.transpose(0, 3), x[::2, :, 1:])
    for view in views:
        assert_agrees(view)
        for dim in (-1, 0, 1, 2):
            ours = vectorised_moments.live_units(view, dim)
            assert torch.equal(ours, reference_moments.live_units(view, dim))
    assert vectorised_moments.live_units(x, 1).tolist() == [True, True, False]
    for number in (torch.tensor(0.0), torch.tensor(2.0)):
        assert_agrees(number)
        assert vectorised_moments.live_units(number, 0).tolist() == [number.item() != 0]


@pytest.mark.parametrize("shape", [(16, 40), (1, 3, 200, 200), (9000, 11), (40, 7000), (3, 5, 7)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_units_of_one_span_and_of_many(shape, dtype):
    x = torch.randn(shape).to(dtype) + 3
    x.select(1, 0).fill_(0.1)
    for t in (x, x.transpose(0, 1)):
        for dim in range(t.dim()):
            ours = vectorised_moments.units_of(t, dim)
            theirs = reference_units.units_of(t, dim)
            assert torch.equal(ours[[0, 3]], theirs[[0, 3]])
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
            assert torch.equal(ours[2] == 0, theirs[2] == 0)
    x.view(-1)[-1] = math.inf
    ours, theirs = (by.units_of(x, 1) for by in (vectorised_moments, reference_units))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_operators_compute_the_same_values():
    z = torch.randn(33, 70)
    ours = reference.act(z, "tanh", 0.0, 0.0, -1, vectorised_moments)
    theirs = reference.act(z, "tanh", 0.0, 0.0, -1)
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[2], theirs[2])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-12, atol=1e-9)
    assert ours[1][1, 3] == theirs[1][1, 3] > 0  # saturated
