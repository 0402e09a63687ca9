"""Skewness, kurtosis, the smallest magnitude and what follows from them, against mpmath."""

import math

import mpmath
import pytest
import torch
from cases.operators import DTYPES

from initfast.stats.as_dict import as_plain, moments_from_dict
from initfast.stats.moments import Moments

INF, NAN = math.inf, math.nan


def exact(x):
    """Skewness and kurtosis in 60 digits; E|d|^3 in units of std^3, that of skewness' error."""
    with mpmath.workdps(60):
        v = [mpmath.mpf(i) for i in x.double().tolist()]
        mean = mpmath.fsum(v) / len(v)
        powers = [mpmath.fsum([abs(i - mean) ** k for i in v]) / len(v) for k in (2, 3, 4)]
        third = mpmath.fsum([(i - mean) ** 3 for i in v]) / len(v)
        std = mpmath.sqrt(powers[0])
        return float(third / std**3), float(powers[2] / std**4), float(powers[1] / std**3)


FAMILIES = {
    "normal": lambda n: torch.randn(n, dtype=torch.float64),
    "uniform": lambda n: torch.rand(n, dtype=torch.float64) - 0.5,
    "exponential": lambda n: -torch.rand(n, dtype=torch.float64).log(),
    "two values": lambda n: (torch.rand(n) < 0.3).double() + 0.1,
    "one far away": lambda n: torch.cat([torch.randn(n - 1).double(), torch.full((1,), 90.0)]),
}


@pytest.mark.parametrize("scale", [1e-37, 1.0, 1e36])
@pytest.mark.parametrize("family", FAMILIES)
def test_shape_at_every_scale(family, scale):
    for n, mean in ((40, 0), (1030, -3), (4100, 200)):
        for dtype in (torch.float32, torch.float64):
            x = ((FAMILIES[family](n) + mean) * scale).to(dtype)
            moments = Moments.of(x)
            skew, kurtosis, third = exact(x)
            assert moments.kurtosis == pytest.approx(kurtosis, rel=2e-6)
            assert abs(moments.skew - skew) <= 2e-6 * third


def test_shape_of_subnormal_numbers():
    x = torch.randint(-100, 100, (5000,)).float() * 2.0**-149
    skew, kurtosis, third = exact(x)
    assert Moments.of(x).kurtosis == pytest.approx(kurtosis, rel=2e-6)
    assert abs(Moments.of(x).skew - skew) <= 2e-6 * third
    assert Moments.of(x).smallest == 2.0**-149


def test_the_families_of_weights():
    """3 of a normal, 1.8 of a uniform, 2.3655 of a normal that is cut at two sigma."""
    n, w = 1_000_000, torch.empty(1_000_000)
    assert Moments.of(torch.randn(n)).kurtosis == pytest.approx(3, abs=5 * math.sqrt(24 / n))
    assert Moments.of(torch.rand(n)).kurtosis == pytest.approx(1.8, abs=0.01)
    torch.nn.init.trunc_normal_(w)
    assert Moments.of(w).kurtosis == pytest.approx(2.36553671713, abs=0.01)
    assert Moments.of(torch.rand(n).log()).skew == pytest.approx(-2, abs=0.05)


@pytest.mark.parametrize("sizes", [(1, 5000), (4096, 4096), (3, 70, 900)])
@pytest.mark.parametrize("scale", [1e-37, 1.0, 1e36])
def test_a_merge_has_the_shape_of_the_whole(scale, sizes):
    parts = [(FAMILIES["exponential"](n) + i) * scale for i, n in enumerate(sizes)]
    whole, total = torch.cat(parts), Moments()
    for part in parts:
        total = total.merge(Moments.of(part))
    skew, kurtosis, _ = exact(whole)
    assert (total.skew, total.kurtosis) == pytest.approx((skew, kurtosis), rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("where", [[], [0], [7], [2000], [4095], [4096], range(0, 9000, 2)])
def test_zeros_and_the_smallest_wherever_they_lie(where, dtype):
    """Runs that begin with zeros, that have some later, and that have none, take other ways."""
    x = torch.rand(9001, dtype=torch.float64).add(0.5).to(dtype)
    x[list(where)] = 0
    x[5000], x[5003] = -0.125, 0.25
    for t in (x, x[:5004], x[1:], x[:9]):
        moments = Moments.of(t)
        assert moments.zero == (t == 0).sum()
        assert moments.smallest == t[t != 0].abs().min()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("zeros", [False, True])
def test_nan_and_infinities_are_told_apart(zeros, dtype):
    x = torch.randn(9000).abs().add(0.1).to(dtype)
    x[::3] *= 0 if zeros else 1
    x[[5, 4097, 8999]], x[[7, 4099]] = NAN, INF
    x[6000:6040] = -INF
    moments = Moments.of(x)
    assert (moments.nan, moments.inf, moments.nonfinite) == (3, 42, 45)
    assert moments.smallest == x[(x != 0) & x.isfinite()].abs().min()


def test_ranges():
    moments = Moments.of(torch.tensor([0.0, -8.0, 0.5, NAN]))
    assert (moments.smallest, moments.dynamic_range) == (0.5, 4)
    assert moments.crest == pytest.approx(8 / math.sqrt(64.25 / 3))
    whole = Moments.of(torch.tensor([3.4e38, 1e-45]))
    assert whole.dynamic_range == pytest.approx(128 + 149, abs=0.01)
    assert Moments.of(torch.tensor([[True, False], [True, True]])).dynamic_range == 0


@pytest.mark.parametrize("x", [[], [0.0, 0.0], [NAN, INF]])
def test_ranges_of_nothing(x):
    moments = Moments.of(torch.tensor(x))
    assert math.isnan(moments.dynamic_range) and math.isnan(moments.crest)
    assert math.isnan(moments.skew) and math.isnan(moments.kurtosis)
    assert moments.smallest == INF


def test_no_shape_without_a_spread_or_beyond_float64():
    assert math.isnan(Moments.of(torch.full((9,), 0.1)).kurtosis)
    for scale in (1e-100, 1e100):
        beyond = Moments.of(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64) * scale)
        assert math.isnan(beyond.kurtosis) and math.isnan(beyond.skew)
        assert beyond.std == pytest.approx(1.527525 * scale)


@pytest.mark.parametrize("factor", [1e-120, 1e-80, 1e80, 1e120])
def test_scaled_by_factors_whose_powers_leave_float64(factor):
    ones = Moments.of(torch.ones(3)).scaled(factor)
    assert (ones.mean, ones.m2, ones.m3, ones.m4) == (factor, 0, 0, 0)
    far = Moments.of(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64) * factor)
    assert far.scaled(1 / factor).std == pytest.approx(1.527525)


def test_the_least_kurtosis_is_one():
    assert Moments.of(torch.tensor([0.1, 0.3]).repeat(999)).kurtosis == pytest.approx(1, abs=1e-6)


def test_what_an_older_report_lacks_is_not_known():
    some = Moments.of(torch.tensor([1.0, 2.0, NAN]))
    plain = as_plain(some)
    assert moments_from_dict(plain) == some
    older = moments_from_dict({name: plain[name] for name in list(plain)[:8]})
    assert (older.nan, older.m3, older.m4, older.smallest) == (None,) * 4
    unknown = (older.inf, older.skew, older.kurtosis, older.dynamic_range)
    assert unknown == (None,) * 4 and older.std == some.std
    for merged in (older.merge(some), some.merge(older), older.scaled(2.0)):
        assert (merged.nan if merged.count == 6 else None, merged.skew) == (None, None)
        assert merged.smallest is None and merged.mean in (1.5, 3.0)
