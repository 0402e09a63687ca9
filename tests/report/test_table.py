"""The table of a report: what it shows, how it fits, what it folds."""

import html
import math

import pytest
import torch
from cases.reports import fold, layer, mlp
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import initfast
from initfast.profiling.profile import profile
from initfast.report.report import Report
from initfast.report.table import Fold, Table
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import number, share


@pytest.fixture(scope="module")
def report():
    return profile(mlp(40, act=nn.ReLU), torch.randn(8, 16))


def test_the_table_fits_and_aligns(report):
    lines = str(report).partition("\n\n")[0].splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == "layer op shape mean std min max gain zero dead".split()
    end = lines[0].index("std") + len("std")
    for line in lines[2:5]:
        assert line[end - 1] != " " and line[end : end + 2] in ("", "  ")
    assert lines[2].split()[0] == "0" and lines[-1].split()[0] == "78"
    assert any(line.startswith("... 36 more like these, std ") for line in lines)
    assert len(lines) == 7


def test_long_names_and_ops_are_shortened():
    text = str(Report([layer("module." * 30, "Operator" * 20), layer("b")]))
    assert max(map(len, text.splitlines())) <= 100
    assert "module.module..." in text


@pytest.mark.parametrize("length", [1, 60, 77, 150, 400])
def test_advice_fits_however_long_the_names_are(length):
    torch.manual_seed(0)
    one, x = nn.Linear(64, 64), torch.randn(64, 64)
    nn.init.constant_(one.bias, -100.0)
    net = nn.Sequential()
    net.add_module("n" * length, nn.Sequential(one, nn.ReLU()))
    report = profile(net, x)
    assert max(map(len, str(report).splitlines())) <= 100
    codes = [f for f in report.findings if f.rule == "dead_units"]
    assert codes
    for found in codes:
        _, _, shown = str(found).rpartition("\n    Do: ")
        lines = [line[8:] for line in shown.splitlines() if line.startswith(" " * 8)]
        exec("\n".join(lines), {"net": net, "report": report, "initfast": initfast})
    assert not one.bias.any()


def test_wide_numbers_drop_columns_but_never_the_names_and_std():
    post = Moments(10, 3, 3, 3, -1.234e-300, 1e-320, -1.234e-300, 1.234e300)
    wide = Layer("n" * 40, "o" * 40, (1,) * 12, (10,) * 12, torch.float32, post, dead_units=123456)
    lines = str(Report([wide])).splitlines()
    assert max(map(len, lines)) <= 100
    assert "layer" in lines[0] and "std" in lines[0] and "non-finite" in lines[0]


def test_a_gradient_that_is_the_same_everywhere_is_not_shown_as_zero():
    report = profile(nn.Linear(4, 4), torch.randn(2, 4), loss=torch.mean)
    heading, _, row, *_ = str(report).splitlines()
    assert row[heading.index("grad rms") :].split()[0] == "0.1250"
    assert report.to_dataframe()["grad_rms"][0] == 0.125


@pytest.mark.parametrize("x", [torch.full((2, 4), math.nan), torch.ones(0, 4)])
def test_extremes_of_no_finite_values_are_blank(x):
    assert "inf" not in Table(profile(nn.Linear(4, 4), x).layers).text()


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1.000"),
        (0.62801, "0.6280"),
        (16.0849, "16.08"),
        (4165.2, "4165"),
        (65770.0, "6.577e+04"),
        (-1.5e-30, "-1.500e-30"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (None, ""),
    ],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text


def test_shares():
    assert [share(v) for v in (0.0, 0.5, 1.0, 1 / 3, 1e-6, None)] == [
        "0",
        "50%",
        "100%",
        "33.33%",
        "0.0001%",
        "",
    ]


def test_runs_fold():
    layers = [layer(f"net.{i}", std=1.0 + i) for i in range(20)]
    assert fold(layers) == [0, 1, 2, Fold(3, 19, 1), 19]
    assert "... 16 more like these, std 4.000 to 19.00" in str(Report(layers))
    assert fold(layers[:6]) == [0, 1, 2, 3, 4, 5]
    assert fold([]) == []


def test_blocks_fold():
    ops = ("norm", "attention", "linear + gelu", "linear")
    layers = [layer("first")] + [layer(f"b.{i}.{op}", op) for i in range(12) for op in ops]
    layers.append(layer("last"))
    assert fold(layers) == [0, 1, 2, 3, 4, Fold(5, 45, 4), 45, 46, 47, 48, 49]
    assert "... 40 more in blocks of 4 like these" in str(Report(layers))


def test_different_layers_do_not_fold():
    layers = [layer(str(i), shape=(16, i + 1)) for i in range(20)]
    assert fold(layers) == list(range(20))


def test_the_first_nonfinite_layer_is_never_folded():
    bad = Moments(4, 1, 0, 0, 0.0, 1.0, 0.0, 1.0)
    layers = [layer(str(i)) for i in range(30)]
    layers[17] = Layer("17", "linear", (16, 8), (16, 8), torch.float32, bad)
    rows = fold(layers)
    assert rows == [0, 1, 2, Fold(3, 17, 1), 17, Fold(18, 29, 1), 29]
    assert "in the output of '17' (linear)" in Report(layers).origin
    layers[17] = layer("17", "linear + tanh", pre=bad)
    assert "in the pre-activation of '17' (linear + tanh)" in str(Report(layers))


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(-1, 59))
def test_folding_covers_every_layer_once(kinds, bad):
    layers = [layer(str(i), op=kind) for i, kind in enumerate(kinds)]
    if 0 <= bad < len(layers):
        layers[bad] = layer(str(bad), kinds[bad], pre=Moments(2, 1))
    seen = []
    for row in fold(layers):
        seen += range(row.start, row.stop) if isinstance(row, Fold) else [row]
        if isinstance(row, Fold):
            for i in range(row.start, row.stop):
                assert kinds[i] == kinds[i - row.period]
            assert bad not in range(row.start, row.stop)
    assert seen == list(range(len(layers)))


def test_an_empty_report_prints():
    assert str(Report([])) == "no layers"
    assert "<table>" in Report([])._repr_html_()


def test_html_is_escaped():
    text = Report([layer("<script>&", "a<b")])._repr_html_()
    assert "<script>" not in text and html.escape("<script>&") in text and "a&lt;b" in text
    assert text.count("<tr>") == 2
