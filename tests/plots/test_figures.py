"""The figures: what is drawn where, as numbers and words, and how files are written."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from cases.reports import layer, mlp
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import nn

from initfast import plots
from initfast.errors import ArgumentError
from initfast.experiments import product
from initfast.profiling.profile import profile
from initfast.report.report import Report
from initfast.stats.moments import Moments
from initfast.stats.weight import Weight
from initfast.theory.random_products import growth_rate

NAN = Moments(4, 4)


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def faulty(depth=6):
    """A report whose layer 2 saturates, and whose last is not finite."""
    wide = Weight(8, 8, Moments(64, mean=0.0, m2=63.0 * 400, min=-60.0, max=60.0))
    flat = Moments(128, 0, 0, 120, 0.0, 127.0, -1.0, 1.0)
    layers = [layer(str(i), "linear + tanh") for i in range(depth)]
    layers[2] = layer("2", "linear + tanh", post=flat, weight=wide, units=8, dead_units=2)
    layers[-1] = layer("last", post=NAN)
    return Report(layers)


def test_by_depth_shows_the_rms_the_findings_and_what_is_not_finite():
    report = faulty()
    figure = report.plot()
    rms, share = figure.axes
    output = rms.lines[0]
    expected = [x.rms for x in report.layers[:-1]]
    assert output.get_ydata()[:-1] == pytest.approx(expected) and math.isnan(output.get_ydata()[-1])
    serious = [f for f in report.findings if f.severity != "info"]
    rules = list(dict.fromkeys(f.rule.replace("_", " ") for f in serious))
    assert serious and len(rms.patches) == len(share.patches) == len(serious)
    named = [text.get_text() for text in rms.texts]
    assert [text for text in named if text in rules] == rules[:4]
    crosses = next(line for line in rms.lines if line.get_label() == "NaN or infinity")
    assert list(crosses.get_xdata()) == [5]
    assert labels(share)[:2] == ["saturated", "dead units"]
    assert share.lines[0].get_ydata()[2] == report[2].saturated == 120 / 128
    assert share.lines[1].get_ydata()[2] == 0.25 and rms.get_yscale() == "log"


def test_ends_of_ranges_are_drawn_where_the_signal_comes_near():
    def ends(*stds):
        layers = [layer(str(i), post=Moments(9, mean=v, min=v, max=v)) for i, v in enumerate(stds)]
        return " ".join(text.get_text() for text in plots.by_depth(Report(layers)).axes[0].texts)

    assert "largest" not in ends(1.0, 2.0) and "smallest" not in ends(1.0, 2.0)
    assert "float16's largest" in ends(1.0, 2e4) and "e4m3's largest" in ends(100.0, 300.0)
    assert "float16's and e5m2's smallest" in ends(1.0, 1e-4)
    assert "bfloat16's largest" in ends(1.0, 1e38)


class Later:
    """A layer with what later versions measure."""

    def __init__(self, known, **more):
        self._known = known
        self.__dict__.update(more)

    def __getattr__(self, name):
        return getattr(self._known, name)


def test_correlation_is_drawn_where_there_is_any():
    report = Report([layer(), layer("1")])
    report.layers[:] = [Later(one, correlation=0.5) for one in report.layers]
    _, correlation = plots.by_depth(report).axes
    assert correlation.get_ylabel() == "correlation"
    assert set(correlation.lines[0].get_ydata()) == {0.5}


def test_the_prediction_is_drawn_with_its_band_across_what_theory_does_not_know():
    net = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.LogSoftmax(-1), nn.Linear(16, 16))
    report = profile(net, torch.randn(8, 16))
    expected = [x.cumulative for x in report.predicted]
    assert [x is None for x in expected] == [False, True, False]
    axes = plots.by_depth(report).axes[0]
    line, (band,) = axes.lines[labels(axes).index("predicted")], axes.collections
    assert list(line.get_xdata()) == [0, 2]
    assert list(line.get_ydata()) == [x.rms for x in expected if x is not None]
    low, high = expected[0].band()
    heights = sorted({float(y) for x, y in band.get_paths()[0].vertices if x == 0})
    assert heights == pytest.approx([low, high])


def test_what_is_not_predictable_is_not_drawn():
    """By chance 50 layers of 8 units end anywhere."""
    net = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(50)])
    report = profile(net, torch.randn(16, 8))
    wide = [x.cumulative is not None and not x.cumulative.is_sharp for x in report.predicted]
    assert wide[-1]
    axes = plots.by_depth(report).axes[0]
    drawn = axes.lines[labels(axes).index("predicted")].get_xdata()
    assert 0 < len(drawn) and not any(wide[place] for place in drawn)


@pytest.mark.parametrize(
    "report",
    [
        Report([]),
        Report([layer()]),
        Report([layer(post=NAN)]),
        Report([layer(post=Moments(4, zero=4, mean=0.0, min=0.0, max=0.0))]),
        Report([layer(std=1e-160), layer("1", std=1e150)]),
        Report([layer("$\\frac{$" * 9, f"lin{chr(0)}")]),
    ],
    ids=["empty", "one layer", "not finite", "zero", "far apart", "odd name"],
)
def test_reports_at_the_edges_are_drawn(report, tmp_path):
    report.plot(tmp_path / "a.svg")
    plots.save(plots.compare([report, Report([layer()])], ["$x^{$", "_\x00b"]), tmp_path / "b.svg")
    assert "<svg" in (tmp_path / "b.svg").read_text(encoding="utf-8")


def test_long_nets_have_lines_without_markers():
    for depth, marker in ((5, "o"), (1000, "")):
        layers = [layer(str(i)) for i in range(depth)]
        (axes,) = plots.by_depth(Report(layers)).axes
        assert axes.lines[0].get_marker() in (marker, marker or "None")
        assert 1 < len([t for t in axes.get_xticks() if 0 <= t < depth]) <= 12


def test_compare_keeps_the_style_of_each_report_in_all_panels():
    x = torch.randn(8, 16)
    plain, graded = profile(mlp(3), x), profile(mlp(4), x, loss=torch.sum)
    figure = plots.compare([plain, graded], ["plain", "with a loss"])
    by_title = {axes.get_ylabel(): axes for axes in figure.axes}
    output, gradient = by_title["output, rms"], by_title["gradient, rms"]
    assert labels(output) == ["plain", "with a loss"] and labels(gradient) == ["with a loss"]
    second = output.lines[1]
    assert gradient.lines[0].get_color() == second.get_color() != output.lines[0].get_color()
    assert gradient.lines[0].get_linestyle() == second.get_linestyle() == "--"
    assert len(output.lines[0].get_ydata()) == 3 and len(second.get_ydata()) == 4
    for reports, names in (([], None), ([plain], ["a", "b"])):
        with pytest.raises(ArgumentError, match="expected a label for each"):
            plots.compare(reports, names)


def test_an_activation_its_slope_and_its_ends():
    (axes,) = plots.activation("sigmoid").axes
    x, y = axes.lines[0].get_data()
    assert x[0] == -8.0 and x[-1] == pytest.approx(7.9)
    assert y == pytest.approx(1 / (1 + np.exp(-x)), abs=1e-12)
    assert axes.lines[1].get_ydata() == pytest.approx(y * (1 - y), abs=1e-9)
    edges = sorted(v for p in axes.patches for v in (p.get_x(), p.get_x() + p.get_width()))
    assert edges == pytest.approx([-8.05, -4.15, 4.15, 7.95], abs=0.06)  # 0.015 and 0.985
    assert not plots.activation("relu").axes[0].patches  # its zeros are zeros
    (own,) = plots.activation(lambda z: z.clamp(-1, 1)).axes
    assert len(own.patches) == 2 and labels(own)[0] == "<lambda>"
    with pytest.raises(ArgumentError, match="unknown activation"):
        plots.activation("nothing")


def test_the_layers_of_a_net_are_points_of_the_phase_diagram():
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Conv1d(4, 6, 3, groups=2, bias=False))
    for parameter, std in zip(net.parameters(), (0.5, 0.3, 0.2), strict=True):
        nn.init.normal_(parameter, 0.0, std)
    axes = plots.phase_diagram("tanh", net).axes[0]
    line, points = axes.lines
    weight, bias, kernel = (p.detach().double() for p in net.parameters())
    expected = [(8 * weight.std(), bias.square().mean().sqrt()), (6**0.5 * kernel.std(), 0.0)]
    assert np.array(points.get_data()).T == pytest.approx(np.array(expected), rel=1e-5)
    low, high = axes.get_xlim()
    assert all(low < w < high for w, _ in expected)
    assert min(line.get_xdata()) == pytest.approx(1.0)


def test_random_products_follow_the_lyapunov_rate():
    assert growth_rate(2) == pytest.approx((math.log(2) - np.euler_gamma) / 2)
    assert growth_rate(4) == product().predicted
    (axes,) = plots.random_product(seed=3).axes
    *draws, rate = (line.get_ydata() for line in axes.lines)
    assert np.diff(np.log(rate)) == pytest.approx(growth_rate(4))
    measured = [math.log(draw[-1]) / 100 for draw in draws]
    error = np.std(measured, ddof=1) / math.sqrt(len(measured))
    assert abs(np.mean(measured) - growth_rate(4)) < 4 * error < 0.1
    again = plots.random_product(seed=3).axes[0].lines[0].get_ydata()
    assert np.array_equal(again, draws[0])


@pytest.mark.parametrize(
    "draw",
    [
        lambda **more: plots.by_depth(faulty(), **more),
        lambda **more: plots.compare([faulty(), faulty(9)], **more),
        lambda **more: plots.signals({"a": [1.0, 2.0], "b": [0.0, math.inf]}, **more),
        lambda **more: plots.activation("tanh", **more),
        lambda **more: plots.random_product(**more),
    ],
    ids=["by_depth", "compare", "signals", "activation", "random_product"],
)
def test_on_axes_of_the_caller_and_on_dark_paper(draw):
    figure = Figure()
    axes, other = figure.subplots(2)
    assert draw(ax=axes) is figure and axes.lines and not other.lines
    dark, light = (draw(dark=d).axes[0] for d in (True, False))
    assert sum(to_rgb(dark.get_facecolor())) < 0.5 < 2.5 < sum(to_rgb(light.get_facecolor()))
    for one, limit in ((dark, 1.0), (light, 2.4)):
        brightness = [sum(to_rgb(line.get_color())) for line in one.lines[:2]]
        assert all((b > limit) == (one is dark) for b in brightness)
    drawn = [line.get_linestyle() for line in light.lines]
    assert len(drawn) == 1 or len(set(drawn)) > 1


def test_files_have_text_as_text_and_the_same_bytes(tmp_path):
    for name in ("a.svg", "b.svg", "a.pdf", "a.png"):
        faulty().plot(tmp_path / name)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert re.search("<text[^>]*>saturated</text>", text)
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert (tmp_path / "a.pdf").read_bytes()[:4] == b"%PDF"
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(ValueError, match="'nothing' is not supported"):
        faulty().plot(tmp_path / "a.nothing")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        faulty().plot(tmp_path / "nowhere" / "a.svg")
    assert len(list(tmp_path.iterdir())) == 4
    assert "<svg" in plots.activation("relu")._repr_svg_()


def test_without_matplotlib_it_says_what_to_install():
    code = """
import sys
sys.modules["matplotlib"] = None
import torch, initfast
report = initfast.profile(torch.nn.Linear(2, 2), torch.ones(3, 2))
assert "<svg" in report.to_html()
try:
    report.plot()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "plots need matplotlib; install it with: pip install 'initfast[plots]'\n"
    assert done.stdout == expected


def of_tanh(gain, depth=3):
    net = nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(64, 64), nn.Tanh())])
    for m in net[::2]:
        nn.init.normal_(m.weight, 0.0, gain / 8)
        nn.init.zeros_(m.bias)
    return profile(net, torch.randn(64, 64), measure="histograms")


def test_histograms_show_densities_and_say_what_is_saturated():
    report = of_tanh(3.0)
    figure = plots.histograms(report)
    axes = figure.axes[0]
    words = labels(axes)
    assert len(words) == 3 and words[0].startswith("0 (linear + tanh): mean ")
    for layer_, text, drawn in zip(report.layers, words, axes.patches, strict=True):
        assert f"std {layer_.std:#.4g}" in text
        assert f"saturated {100 * layer_.saturated:.4g}%" in text and layer_.saturated > 0.2
        values, edges, _ = drawn.get_data()
        assert (values * np.diff(edges)).sum() == pytest.approx(1)
        assert values[-1] > 3 * values[abs(edges[:-1] - 0.25).argmin()]
        assert values.argmax() in (0, len(values) - 1)  # few numbers near zero make no peak
    assert axes.get_yscale() == "linear"


def test_histograms_of_other_scales_have_a_log_axis_and_of_many_layers_ten_are_drawn():
    vanishing = of_tanh(0.1)
    axes = plots.histograms(vanishing, dark=True).axes[0]
    assert axes.get_yscale() == "log" and "saturated" not in labels(axes)[-1]
    axes = plots.histograms(of_tanh(1.0, 31)).axes[0]
    assert len(axes.patches) == 10 and axes.get_xlabel() == "value, 10 of 31 layers"
    assert [labels(axes)[i].partition(" ")[0] for i in (0, -1)] == ["0", "60"]
    figure = Figure()
    ax = figure.subplots()
    assert plots.histograms(vanishing.select("0"), ax=ax) is figure and len(ax.patches) == 1


def test_histograms_need_to_have_been_asked_for(tmp_path):
    with pytest.raises(ArgumentError, match=r'profile\(net, x, measure="histograms"\)'):
        plots.histograms(profile(mlp(2), torch.randn(4, 16)))
    zeros = profile(nn.ReLU(), -torch.ones(3, 4), measure="histograms")
    plots.save(plots.histograms(zeros), tmp_path / "zeros.svg")
    odd = Report([layer("_$a^b$", histogram=of_tanh(1.0)[0].histogram)])
    plots.save(plots.histograms(odd), tmp_path / "odd.svg")
    assert "_$a^b$" in (tmp_path / "odd.svg").read_text()
