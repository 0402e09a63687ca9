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
from initfast.report.folding import Fold
from initfast.report.report import Report
from initfast.report.table import Table
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
    for line in lines[2:6]:
        assert line[end - 1] != " " and line[end : end + 2] in ("", "  ")
    assert lines[2].split()[0] == "(input)" and lines[3].split()[0] == "0"
    assert lines[-1].split()[0] == "78"
    assert any(line.startswith("... 36 more like these, std ") for line in lines)
    assert len(lines) == 8


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("length", [8, 30, 90, 250, 10_000])
def test_names_are_never_cut(width, length, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    names = [f"{'n' * (length - 4)}.{i}.wo" for i in range(12, 19)]
    layers = [layer(name, "O" * length, shape=(2, i)) for i, name in enumerate(names, 1)]
    for text in (str(Report(layers)), Report(layers).tree()):
        assert max(map(len, text.splitlines())) <= width
        whole = "".join(text.split())
        assert "..." not in whole and "n" * (length - 4) in whole
        assert whole.count("O" * length) == len(names)
    assert all(f"{i}.wo" in "".join(str(Report(layers)).split()) for i in range(12, 19))


def test_a_path_that_all_long_names_share_stands_once():
    names = [f"{'deep.' * 20}block.{i}.{end}" for i in range(3) for end in ("a", "b")]
    lines = str(Report([layer(name, shape=(2, i)) for i, name in enumerate(names)])).splitlines()
    assert "".join(lines[:2]).replace("    ", "") == f"All names begin with {'deep.' * 20}block."
    assert [line.split()[0] for line in lines[4:10]] == "0.a 0.b 1.a 1.b 2.a 2.b".split()


def test_the_table_is_as_wide_as_the_terminal(monkeypatch):
    layers = [layer("n" * 40, "linear + gelu_tanh", grad=GRAD, input=GRAD) for _ in range(2)]
    for width, missing in [
        (70, "min"),
        (90, "shape, mean, min, max, zero"),
        (110, "min, max"),
        (160, ""),
    ]:
        monkeypatch.setenv("COLUMNS", str(width))
        text = str(Report(layers)).partition("\n\n")[0]
        assert max(map(len, text.splitlines())) <= width
        said = f"Columns left out for want of width: {missing}; to_dataframe() has them."
        assert (" ".join(text.split()).endswith(said)) == bool(missing)
        for heading in filter(None, missing.split(", ")):
            assert f" {heading} " not in text.splitlines()[0]


def test_a_mean_that_is_rounding_is_zero():
    def row(mean, std):
        m = Moments(100, mean=mean, m2=99 * std * std, min=-9.0, max=9.0)
        return str(Report([layer(post=m)])).splitlines()[2].split()[3]

    assert row(-5e-9, 1.0) == "0" and row(2e-6, 1.0) == "2.000e-06"
    assert row(-5e-9, 1e-4) == "-5.000e-09" and row(3e-30, 0.0) == "3.000e-30"


def test_the_input_and_the_loss_are_in_the_table():
    one, two = Moments.of(torch.ones(2, 2)), Moments.of(torch.tensor([0.0, math.nan, 2.0]))
    rows = Table([layer()], inputs=[one, two], loss=0.25).text().splitlines()[2:]
    assert [line.rsplit("  ", 1)[0].split()[:2] for line in rows[:2]] == [
        ["(input", "0)"],
        ["(input", "1)"],
    ]
    assert rows[1].endswith("33.33%") and rows[-1].split()[:2] == ["(loss)", "0.2500"]
    assert Table([layer()], loss=math.nan).text().splitlines()[-1].split()[-1] == "100%"
    net, x = nn.Linear(4, 4), torch.randn(64, 4)
    assert str(profile(net, x)).splitlines()[2].split()[2] == number(x.double().std().item())


GRAD = Moments(128, mean=0.25, m2=127.0, min=-3.0, max=3.0)


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
    heading, _, _, row, *_ = str(report).splitlines()
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


def test_what_follows_the_first_nonfinite_layer_folds():
    bad = Moments(4, 4)
    ops = ("norm", "attention", "linear + gelu", "linear")
    layers = [layer(f"b.{i}.{op}", op) for i in range(12) for op in ops]
    layers = [layer("in", "first"), *layers, layer("out", "last")]
    for i in range(22, 50):
        layers[i] = layer(layers[i].name, layers[i].op, post=bad)
    rows = fold(layers)
    assert rows == [0, 1, 2, 3, 4, Fold(5, 19, 4), *range(19, 26), Fold(26, 50, 0)]
    assert "... 24 more with NaN or infinities, to out" in str(Report(layers))


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


def test_the_rms_stands_beside_its_prediction_where_both_have_room(monkeypatch):
    net = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.LogSoftmax(-1))
    report = profile(net, torch.randn(8, 16))
    monkeypatch.setenv("COLUMNS", "200")
    head, _, _, first, second, *_ = str(report).splitlines()
    words, values = head.split(), first.replace(" + ", "+").split()
    assert words[words.index("std") :][:3] == ["std", "rms", "predicted"]
    at = words.index("rms")
    expected = report.predicted[0].cumulative.rms
    assert values[at : at + 2] == [number(report[0].rms), number(expected)]
    assert second[: head.index("predicted") + 9].split()[-1] == number(report[1].rms)
    width = len(head)
    for columns, has_room in ((width, True), (width - 1, False)):
        monkeypatch.setenv("COLUMNS", str(max(columns, 0)))
        text = str(report)
        assert ("predicted" in text) == has_room and "left out" not in text


def test_nets_of_which_theory_says_nothing_have_no_prediction(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    x = torch.randn(4, 4)
    assert "predicted" not in str(profile(nn.LogSoftmax(-1), x))


def test_html_is_escaped():
    text = Report([layer("<script>&", "a<b")])._repr_html_()
    assert "<script>" not in text and html.escape("<script>&") in text and "a&lt;b" in text
    assert text.count("<tr>") == 2
