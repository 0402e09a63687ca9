"""compare(): rows matched by name and call, and what differs in them."""

import json
import math

import pytest
import torch
from cases.reports import layer, mlp
from torch import nn

import initfast
from initfast.report.comparison import MOST_SHOWN
from initfast.report.report import Report
from initfast.stats.families import coarse_family
from initfast.stats.moments import Moments

X = torch.ones(8, 16).cumsum(1) / 16


def of(*layers):
    return Report(list(layers))


def test_a_report_is_the_same_as_itself_also_through_json():
    report = initfast.profile(mlp(3), X, loss=lambda y: y.sum())
    found = initfast.compare(report, Report.from_dict(json.loads(report.to_json())), tolerance=0.0)
    assert found.is_same and len(found.matched) == 3 and found.changes == []
    assert "0 of 3 rows changed" in str(found)


def test_one_scaled_weight_is_named_with_its_ratio():
    net = mlp(2)
    before = initfast.profile(net, X)
    net[2].weight.data.mul_(3)
    found = initfast.compare(before, initfast.profile(net, X))
    assert {change.name for change in found.changes} == {"2"}
    (weight,) = [change for change in found.changes if change.what == "weight std"]
    assert weight.ratio == pytest.approx(3, rel=1e-5)
    assert not found.is_same
    assert "changed: 2: std " in str(found) and "weight std" in str(found)


@pytest.mark.parametrize(("factor", "same"), [(1.049, True), (1.06, False), (0.96, True)])
def test_the_tolerance_is_a_share(factor, same):
    before, after = of(layer(std=1.0)), of(layer(std=factor))
    assert initfast.compare(before, after, tolerance=0.05).is_same is same


def test_a_family_is_a_change_where_the_std_is_the_same():
    net = nn.Linear(64, 64)
    before = initfast.profile(net, torch.ones(2, 64))
    nn.init.normal_(net.weight, std=net.weight.std().item())
    what = {
        c.what: c
        for c in initfast.compare(before, initfast.profile(net, X[:2].repeat(1, 4))).changes
    }
    assert (what["weight family"].before, what["weight family"].after) == ("uniform", "normal")


def test_rows_that_appear_and_vanish_are_named():
    a, b = of(layer("a"), layer("b")), of(layer("b"), layer("c"), layer("d"))
    found = initfast.compare(a, b)
    assert [x.name for x in found.vanished] == ["a"]
    assert [x.name for x in found.appeared] == ["c", "d"]
    assert [x.name for x, _ in found.matched] == ["b"]
    assert "vanished: a (linear)" in str(found) and "appeared: c (linear), std" in str(found)


def test_calls_of_one_name_are_matched_by_what_ran_and_then_in_order():
    a = of(layer("x", "add", 1.0), layer("x", "linear", 2.0), layer("x", "linear", 3.0))
    b = of(layer("x", "linear", 2.0), layer("x", "linear", 9.0), layer("x", "add", 1.0))
    (change,) = [c for c in initfast.compare(a, b).changes]
    assert (change.name, change.call, change.what, change.before) == ("x", 2, "std", 3.0)


def test_another_activation_is_a_change_of_the_row():
    a, b = of(layer("0", "linear + relu")), of(layer("0", "linear + gelu"))
    (change,) = initfast.compare(a, b).changes
    assert (change.what, change.before, change.after) == ("op", "linear + relu", "linear + gelu")
    assert math.isnan(change.ratio)


def test_nan_equals_nan_and_nothing_else():
    nan = Moments(4, 4, 0, 0, math.nan, 0.0, math.inf, -math.inf)
    a = of(layer(post=nan))
    assert initfast.compare(a, a).is_same
    assert not initfast.compare(a, of(layer())).is_same


def test_gradients_are_compared_where_both_have_them():
    net = mlp(2)
    plain = initfast.profile(net, X)
    one = initfast.profile(net, X, loss=lambda y: y.square().sum())
    ten = initfast.profile(net, X, loss=lambda y: 10 * y.square().sum())
    assert initfast.compare(plain, one).is_same
    what = {change.what for change in initfast.compare(one, ten).changes}
    assert what == {"gradient rms", "weight gradient rms"}


def test_many_lines_are_cut_and_counted():
    a = of(*(layer(f"{i}") for i in range(MOST_SHOWN + 7)))
    text = str(initfast.compare(a, of(layer("other"))))
    assert "... 8 more in comparison.lines()" in text


def test_it_becomes_plain():
    found = initfast.compare(of(layer("a")), of(layer("a", std=2.0), layer("b")))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["appeared"] == ["b"] and plain["changes"][0]["what"] == "std"


def test_what_is_no_report_is_refused():
    with pytest.raises(TypeError, match="compare: b is a dict; expected a Report"):
        initfast.compare(of(), {})
    with pytest.raises(ValueError, match="tolerance is -1; expected a number from zero up"):
        initfast.compare(of(), of(), tolerance=-1)


@pytest.mark.parametrize("n", [64, 1000, 100_000])
@pytest.mark.parametrize("seed", range(5))
def test_weight_families(n, seed):
    torch.manual_seed(seed)
    cut = nn.init.trunc_normal_(torch.empty(n), a=-2, b=2)
    known = {
        "normal": torch.randn(n),
        "constant": torch.full((n,), 0.3),
        "sparse": torch.randn(n) * (torch.arange(n) % 3 == 0),
    }
    if n > 64:  # fewer tell no cut from the tails
        known |= {"uniform": torch.rand(n) - 0.5, "cut at 2 sigma": cut}
    for family, values in known.items():
        assert coarse_family(Moments.of(values)) == family
    assert coarse_family(Moments.of(torch.randn(10))) == ""
