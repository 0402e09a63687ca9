"""The truncated normal distribution's bounds: on either side, at a point, in sigma, far away."""

import math
import warnings

import pytest
import torch
from torch import nn

from initfast import init
from initfast.stats.cut_normal import cut_std


def test_truncation_warns_as_torch_does():
    for mean, std, a, b in [
        (9, 1, -2, 2),
        (-9, 1, -2, 2),
        (2.1, 0.01, 0, 2),
        (0, 1, -2, 2),
        (4, 1, -2, 2),
    ]:
        with warnings.catch_warnings(record=True) as theirs:
            warnings.simplefilter("always")
            nn.init.trunc_normal_(torch.empty(2), mean, std, a, b)
        with warnings.catch_warnings(record=True) as ours:
            warnings.simplefilter("always")
            init.trunc_normal_(torch.empty(2), mean, std, a, b)
        assert [w.category for w in ours] == [w.category for w in theirs]
        assert all("mean is more than 2 std from [a, b]" in str(w.message) for w in ours)
        assert all(w.filename == __file__ for w in ours)


def test_truncation_at_a_point():
    for mean, expected in [(0.5, 0.5), (3.0, 1.0), (-3.0, -1.0)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert (init.trunc_normal_(torch.empty(9), mean, 0.0, -1.0, 1.0) == expected).all()
    assert (init.trunc_normal_(torch.empty(9), 0.3, 1.0, 0.25, 0.25) == 0.25).all()


def test_bounds_in_sigma():
    w = init.trunc_normal_(torch.empty(10_000), 1.0, 0.02, -2, 2, in_sigma=True, key=5)
    assert torch.equal(w, init.trunc_normal_(torch.empty(10_000), 1.0, 0.02, 0.96, 1.04, key=5))
    assert (w - 1).abs().max() > 0.039


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_in_sigma_are_the_same_at_every_scale(dtype):
    """Bounds of 3 * 0.1, over 0.1, would be more than 3."""
    unit = init.trunc_normal_(torch.empty(10_000, dtype=dtype), 0.0, 1.0, -3, 3, key=5)
    w = torch.empty(10_000, dtype=dtype)
    init.trunc_normal_(w, 0.0, 0.1, -3, 3, in_sigma=True, key=5)
    assert torch.equal(w, unit * 0.1)


def test_wide_bounds_are_no_bounds():
    normal = init.normal_(torch.empty(10_000), std=0.02, key=5)
    assert torch.equal(init.trunc_normal_(torch.empty(10_000), std=0.02, key=5), normal)
    wide = init.trunc_normal_(torch.empty(10_000), 0, 0.02, -math.inf, math.inf, key=5)
    assert torch.equal(wide, normal)


@pytest.mark.parametrize("cut", [0.001, 0.5, 2.0, 3.0, math.inf])
def test_the_std_after_the_cut(cut):
    w = torch.empty(10**6, dtype=torch.float64)
    init.trunc_normal_(w, 5.0, 0.3, -cut, cut, in_sigma=True, std_after_cut=True, key=1)
    kurtosis = ((w - 5) ** 4).mean() / ((w - 5) ** 2).mean() ** 2
    error = 0.3 * math.sqrt((kurtosis - 1) / (4 * 10**6))
    assert abs(w.std() - 0.3) < 4 * error and abs(w.mean() - 5) < 0.0015


def test_the_cut_std_is_smooth_where_its_formula_changes():
    assert cut_std(0.01) == pytest.approx(cut_std(0.01 - 1e-9), rel=2e-7)


@pytest.mark.parametrize(("a", "b", "in_sigma"), [(-2, 2, False), (-1, 2, True), (0, 0, True)])
def test_a_std_after_the_cut_needs_bounds_in_sigma_alike_on_both_sides(a, b, in_sigma):
    with pytest.raises(ValueError, match="expected in_sigma=True"):
        init.trunc_normal_(torch.empty(3), 0, 1, a, b, in_sigma=in_sigma, std_after_cut=True)
