"""moments and Moments: right at any scale, mergeable, the same bits on any number of threads."""

import itertools
import math

import numpy as np
import pytest
import torch
from cases.operators import DTYPES, SHAPES, assert_row, layouts

from initfast import ops
from initfast.ops.schemas import LIBRARY
from initfast.stats.moments import Moments

INF, NAN = math.inf, math.nan


def normal(n, std=1.0, mean=0.0, dtype=torch.float32):
    return (torch.randn(n, dtype=torch.float64) * std + mean).to(dtype)


# One tensor


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moments_of_every_layout(shape, dtype):
    for way, x in layouts(shape, dtype).items():
        row = ops.moments(x)
        assert_row(row, x)
        assert row.shape == (12,), way


@pytest.mark.parametrize(
    "n", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 255, 257, 4095, 4096, 4097, 12289]
)
def test_sizes_at_the_edges_of_vectors_and_runs(n):
    for dtype in DTYPES:
        x = normal(n, dtype=dtype)
        assert_row(ops.moments(x), x)


@pytest.mark.parametrize("size", [1000, 2**20 + 5])
@pytest.mark.parametrize("std", [1e-37, 1e-30, 1e-17, 1.0, 1e17, 1e19, 1e25, 1e37])
def test_float32_std_from_1e_minus_37_to_1e37(std, size):
    x = normal(size, std)
    assert torch.isfinite(x).all() and x.abs().max() > 0
    moments = Moments.of(x)
    assert_row(ops.moments(x), x)
    assert moments.std == pytest.approx(np.std(x.double().numpy(), ddof=1), rel=1e-6)


@pytest.mark.parametrize("std", [1e-37, 1e-19, 1e37])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_std_of_the_other_wide_dtypes(dtype, std):
    x = normal(20_000, std, dtype=dtype)
    assert_row(ops.moments(x), x)


@pytest.mark.parametrize("std", [1e-6, 1.0, 1e4])
def test_float16_std(std):
    x = normal(20_000, std, dtype=torch.float16)
    assert_row(ops.moments(x), x)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("ratio", [1, 100, 1e4])
@pytest.mark.parametrize("std", [1e-33, 1.0, 1e33])
def test_mean_up_to_1e4_standard_deviations(std, ratio, sign):
    for n in (37, 4096, 100_003):
        x = normal(n, std, sign * ratio * std)
        assert_row(ops.moments(x), x)


@pytest.mark.parametrize("n", [64, 4096, 40_960])
@pytest.mark.parametrize("seed", range(20))
def test_two_valued_tensors_do_not_pile_up_rounding(n, seed):
    """Equal squares are rounded the same way at every addition: the worst case of a sum."""
    generator = np.random.default_rng(seed)
    low, high = np.sort(generator.uniform(0.5, 2, 2)).astype(np.float32)
    x = torch.full((n,), float(low))
    x[: int(generator.integers(n // 4, n // 2 + 1))] = float(high)
    x = x[torch.randperm(n)]
    assert_row(ops.moments(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extremes_of_the_range_of_one_sign_sum_without_overflow(dtype):
    largest = torch.finfo(torch.float32).max
    x = (torch.rand(10_000, dtype=torch.float64) * 0.5 + 0.5).mul(largest).to(dtype)
    assert_row(ops.moments(x), x)
    assert_row(ops.moments(torch.cat([x, -x])), torch.cat([x, -x]))


def test_subnormal_numbers_are_not_flushed():
    x = torch.randint(-100, 100, (5000,)).float() * 2.0**-149
    assert x.abs().max() > 0
    assert_row(ops.moments(x), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -3.3, 6e4, 6e-8])
@pytest.mark.parametrize("n", [1, 3, 4096, 10_000])
def test_constant_tensors_have_exactly_no_spread(n, value, dtype):
    x = torch.full((n,), value, dtype=dtype)
    count, nonfinite, zero, _, mean, m2, low, high, _, m3, m4, smallest = ops.moments(x).tolist()
    stored = x[0].item()
    assert (mean, m2, low, high) == (stored, 0, stored, stored)
    assert (m3, m4, smallest) == (0, 0, abs(stored) or INF)
    assert (count, nonfinite, zero) == (n, 0, n if stored == 0 else 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [1, 5, 64, 4096, 9001])
def test_the_finite_part_is_measured_where_some_values_are_not(n, dtype):
    x = normal(n, 3.0, 2.0, dtype)
    for bad in ([NAN], [INF], [-INF], [INF, -INF, NAN]):
        spoilt = x.clone()
        where = torch.randperm(n)[: max(1, n // 7)]
        spoilt[where] = torch.tensor(bad, dtype=dtype).repeat(len(where))[: len(where)]
        assert_row(ops.moments(spoilt), spoilt)


@pytest.mark.parametrize("std", [1e-37, 1e37])
def test_the_finite_part_is_measured_at_the_ends_of_the_range(std):
    x = normal(10_000, std)
    x[::11] = NAN
    x[5] = INF
    assert_row(ops.moments(x), x)


def test_nothing_finite_and_nothing_at_all():
    for x in (torch.full((300,), NAN), torch.tensor(INF), torch.tensor([-INF, NAN])):
        nothing = [x.numel(), x.numel(), 0, 0, 0, 0, INF, -INF, x.isnan().sum().item(), 0, 0, INF]
        assert ops.moments(x).tolist() == nothing
    assert ops.moments(torch.empty(0, 3)).tolist() == [0] * 6 + [INF, -INF, 0, 0, 0, INF]


def test_views_that_torch_has_yet_to_negate():
    x = torch.view_as_complex(torch.randn(100, 2)).conj().imag
    assert x.is_neg()
    assert_row(ops.moments(x), x)


# Determinism


needs_native = pytest.mark.skipif(
    LIBRARY.backend != "native", reason="plain PyTorch's own sums depend on its threads"
)


@needs_native
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    x = normal(1_000_003, dtype=dtype)
    x[1234] = NAN
    rows = []
    for threads in (1, 2, 4, 16):
        torch.set_num_threads(threads)
        rows.append(ops.moments(x).numpy().tobytes())
    assert len(set(rows)) == 1


@needs_native
def test_bits_do_not_depend_on_where_the_tensor_lies():
    x = torch.randn(50_001)
    rows = {ops.moments(x).numpy().tobytes()}
    for offset in (1, 2, 3, 5, 16):
        shifted = torch.empty(50_001 + offset)[offset:].copy_(x)
        rows.add(ops.moments(shifted).numpy().tobytes())
    assert len(rows) == 1


# Moments, the class


def test_a_merge_adds_the_distance_of_the_means():
    """N(0, 1) and N(3, 1) together: variance 1 + 3**2 / 4."""
    n = 10**6
    parts = [Moments(n, mean=mean, m2=float(n), min=-9.0, max=9.0) for mean in (0.0, 3.0)]
    merged = parts[0].merge(parts[1])
    assert merged.m2 / n / 2 == pytest.approx(3.25, rel=1e-15)
    assert (merged.mean, merged.count) == (1.5, 2 * n)
    x, y = normal(n), normal(n, mean=3.0)
    measured = Moments.of(x).merge(Moments.of(y))
    assert measured.var == pytest.approx(3.25, rel=0.01)
    assert measured.var == pytest.approx(torch.cat([x, y]).double().var().item(), rel=1e-7)


def close(a, b, tolerance=1e-12):
    counts = ("count", "nonfinite", "nan", "zero", "saturated", "min", "max", "smallest")
    same = all(getattr(a, name) == getattr(b, name) for name in counts)
    std = max(a.std, b.std)
    near = abs(a.mean - b.mean) <= tolerance * std and abs(a.std - b.std) <= tolerance * std
    shape = abs(a.skew - b.skew), abs(a.kurtosis - b.kurtosis)
    return same and near and max(shape) <= 4 * tolerance * b.kurtosis


@pytest.mark.parametrize("scale", [1e-37, 1.0, 1e37])
def test_a_merge_does_not_depend_on_order_or_grouping(scale):
    sizes = (1, 3, 1000, 4096, 77)
    parts = [Moments.of(normal(n, scale * (i + 1), 3 * scale * i)) for i, n in enumerate(sizes)]
    folds = []
    for order in itertools.permutations(parts):
        total = Moments()
        for part in order:
            total = total.merge(part)
        folds.append(total)
    a, b, c, d, e = parts
    folds.append(a.merge(b.merge(c.merge(d.merge(e)))))
    folds.append(a.merge(b).merge(c.merge(d)).merge(e))
    assert all(close(folds[0], fold) for fold in folds)


def test_a_merge_of_parts_is_the_whole():
    x = normal(30_000, 2.0, -1.0)
    x[::5] = 0.0
    x[7] = NAN
    whole, total = Moments.of(x), Moments()
    for part in x.split([1, 9999, 0, 20_000]):
        total = total.merge(Moments.of(part))
    assert close(whole, total, 1e-6)


def test_nothing_merges_as_nothing():
    some = Moments.of(torch.tensor([1.0, 2.0, INF]))
    assert Moments().merge(some) == some == some.merge(Moments())
    lost = Moments.of(torch.full((4,), NAN))
    both = Moments(7, 5, 0, 0, 1.5, 0.5, 1.0, 2.0, nan=4, m3=0.0, m4=0.125, smallest=1.0)
    assert lost.merge(some) == both == some.merge(lost)
    empty = Moments().merge(Moments())
    assert (empty.count, empty.m2, empty.min, empty.max) == (0, 0, INF, -INF)
    assert math.isnan(empty.mean)


def test_what_is_derived():
    x = torch.tensor([0.0, 0.0, 3.0, -1.0, NAN, INF])
    moments = Moments.of(x)
    assert (moments.count, moments.nonfinite, moments.finite, moments.zero) == (6, 2, 4, 2)
    assert all(type(n) is int for n in (moments.count, moments.nonfinite, moments.zero))
    finite = x[:4].double()
    assert moments.std == pytest.approx(finite.std().item())
    assert moments.var == pytest.approx(finite.var().item())
    assert moments.rms == pytest.approx(finite.square().mean().sqrt().item())
    assert (moments.zeros, moments.nonfinite_share) == (2 / 6, 2 / 6)
    saturated = Moments.from_row(ops.act(torch.tensor([0.0, 9.0, 9.0, 9.0]), "tanh")[1][1].tolist())
    assert saturated.saturation == 0.75


def test_what_is_derived_of_little():
    assert math.isnan(Moments.of(torch.ones(1)).std)
    assert Moments.of(torch.ones(2)).std == 0
    nothing = Moments.of(torch.empty(0))
    for name in ("mean", "std", "var", "rms", "zeros", "saturation", "nonfinite_share"):
        assert math.isnan(getattr(nothing, name)), name


@pytest.mark.parametrize("scale", [1e-150, 1e37, 1e150])
def test_rms_neither_overflows_nor_vanishes(scale):
    moments = Moments(2, mean=scale, m2=0.0, min=scale, max=scale)
    assert moments.rms == pytest.approx(scale)


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([[3, -1], [0, 7]]),
        torch.tensor([True, False, True]),
        torch.tensor([1.0, -2.0, 0.5]).to(torch.float8_e4m3fn),
        torch.eye(3).to_sparse(),
        torch.eye(3, requires_grad=True),
        torch.tensor([200, 255], dtype=torch.uint8),
    ],
    ids=lambda x: f"{x.dtype} {x.layout}",
)
def test_moments_of_whatever_is_real(x):
    dense = x.detach().to_dense() if x.is_sparse else x.detach()
    moments, truth = Moments.of(x), dense.double()
    assert moments.count == truth.numel() and moments.zero == (truth == 0).sum()
    assert moments.mean == pytest.approx(truth.mean().item())
    assert moments.std == pytest.approx(truth.std().item())
    assert (moments.min, moments.max) == (truth.min().item(), truth.max().item())


@pytest.mark.parametrize(
    "x, kind, words",
    [
        ([1.0], TypeError, "x is a list; expected a tensor"),
        (torch.ones(2) * 1j, TypeError, "x is torch.complex64; expected real numbers"),
        (torch.ones(2, device="meta"), ValueError, "on the meta device and has no values"),
        (torch.nested.nested_tensor([torch.ones(2)]), ValueError, "x is a nested tensor"),
    ],
    ids=["list", "complex", "meta", "nested"],
)
def test_what_has_no_moments(x, kind, words):
    with pytest.raises(kind, match=f"^Moments.of: .*{words}"):
        Moments.of(x)
