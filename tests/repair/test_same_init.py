"""assert_same_init(): ports that are right pass, and what differs is named."""

import math

import pytest
import torch
from cases.switches import times
from torch import nn

from initfast.repair.same_init import assert_same_init, kolmogorov_smirnov


def net(seed=0, width=64, draw=None):
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Embedding(100, width), nn.Linear(width, width), nn.LayerNorm(width), nn.Linear(width, 8)
    )
    if draw is not None:
        draw(layers[1].weight)
    return layers


def test_nets_that_are_drawn_alike_pass():
    for seed in range(times(5)):
        assert_same_init(net(2 * seed), net(2 * seed + 1))


def test_about_one_in_ten_fails_at_that_level():
    """The level is kept: Bonferroni's is an upper bound, and KS's asymptotic."""
    failures = 0
    for seed in range(times(40)):
        try:
            assert_same_init(net(2 * seed), net(2 * seed + 1), level=0.1)
        except AssertionError:
            failures += 1
    assert failures <= times(11)  # of a binomial, 4 in 1000 are above


@pytest.mark.parametrize(
    "draw, words",
    [
        (nn.init.xavier_uniform_, "has std"),
        (lambda w: nn.init.normal_(w, std=1 / math.sqrt(3 * 64)), "is normal"),
        (nn.init.zeros_, "is all 0"),
        (lambda w: w.data.copy_(w.abs()), "is uniform|has another distribution|has std"),
    ],
)
def test_a_weight_that_is_drawn_otherwise_is_named(draw, words):
    with pytest.raises(AssertionError, match=rf"(?s)1 of 7 parameters.*'1.weight' .*({words})"):
        assert_same_init(net(0, draw=draw), net(1))


def test_a_cut_that_one_has_not():
    def draw(cut):
        return lambda w: nn.init.trunc_normal_(w, std=0.02, a=-cut * 0.02, b=cut * 0.02)

    assert_same_init(net(0, 128, draw(3)), net(1, 128, draw(3)))
    with pytest.raises(AssertionError, match="cut at 3 sigma against normal"):
        assert_same_init(net(0, 128, draw(3)), net(1, 128, draw(100)))


def test_bits():
    assert_same_init(net(3), net(3), by="bits")
    other = net(3)
    with torch.no_grad():
        other[1].weight[0, 0] += 1
    with pytest.raises(AssertionError, match=r"'1.weight' differs in 1 of 4096 values"):
        assert_same_init(net(3), other, by="bits")
    with pytest.raises(AssertionError, match=r"torch.float64 .* against torch.float32"):
        assert_same_init(net(3).double(), net(3), by="bits")
    assert_same_init(net(3).double(), net(4))


def test_names_and_shapes():
    port = nn.ModuleDict(dict(zip("efgh", net(1).children(), strict=True)))
    renamed = dict(zip("0123", "efgh", strict=True))
    assert_same_init(net(0), port, rename=lambda name: renamed[name[0]] + name[1:])
    assert_same_init(net(0), nn.ModuleDict({"_orig_mod": net(1)}))  # as compile wraps it
    with pytest.raises(AssertionError, match="in the first net alone"):
        assert_same_init(net(0), port)
    with pytest.raises(AssertionError, match=r"has shape \[8\] against \[9\]"):
        assert_same_init(nn.Linear(4, 8), nn.Linear(4, 9))
    with pytest.raises(AssertionError, match="cannot be compared: on the meta device"):
        assert_same_init(nn.Linear(4, 8), nn.Linear(4, 8, device="meta"))


def test_arguments():
    with pytest.raises(ValueError, match="by is 'mean'"):
        assert_same_init(net(), net(), by="mean")
    with pytest.raises(ValueError, match="level is 2"):
        assert_same_init(net(), net(), level=2)


def test_kolmogorov_smirnov_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    for n, m, shift in [(1000, 1500, 0.0), (2000, 2000, 0.1), (5000, 4000, 0.05)]:
        x = torch.randn(n, generator=generator)
        y = torch.randn(m, generator=generator) + shift
        distance, chance = kolmogorov_smirnov(x, y)
        expected = stats.ks_2samp(x.numpy(), y.numpy(), method="asymp")
        assert math.isclose(distance, expected.statistic, abs_tol=1e-12)
        assert chance >= expected.pvalue * 0.5
        if expected.pvalue < 1e-3:
            assert chance < 4 * expected.pvalue
