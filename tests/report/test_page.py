"""The page of a report: what is in it, its size, and names that try to be more than text."""

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import torch
from cases.reports import layer, mlp
from torch import nn

from initfast.profiling.profile import profile
from initfast.report.page import html_page
from initfast.report.page_json import embedded_json
from initfast.report.report import Report
from initfast.stats.layer import Skipped
from initfast.stats.moments import Moments
from initfast.stats.text import number
from initfast.stats.weight import Weight

NAN = Moments(4, 4)
"""Of four numbers, none of them finite."""

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title></style></svg><img src=x onerror=alert(1)>",
    "\" onmouseover=alert(1) x='",
    "<!--",
    "]]>",
    "$css ${js} $$",
    "&lt;b&gt;",
    "\x00\x1b[31m\r\n\x07",
    "\u202egnp.exe\u2066",
    "\ud800",
    "a" * 10_000,
    "<b>" * 3_000,
    ".".join("ab" * 2_500),
]


class Page(HTMLParser):
    """The elements of a page, their attributes and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def failing(name="a", kind="Linear"):
    """A report with findings, remarks and a name in every place that takes one."""
    weight = Weight(8, 8, Moments(64, mean=0.0, m2=63.0 * 400, min=-60.0, max=60.0))
    layers = [
        layer(name, f"linear{kind}", type=kind, weight=weight, parameter=f"{name}.weight"),
        layer(name, "add", post=NAN, also=(f"{name}.more", ""), also_types=(kind, kind)),
    ]
    return Report(layers, skipped=[Skipped(name, kind, name)], notes=[name], root=name)


def without_json(text):
    return re.sub(r'<script type="text/plain".*?</script>', "", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_text_and_nothing_else(name):
    hostile, plain = (failing(n, n).to_html(beside=failing(n, n)) for n in (name, "a"))
    page = Page(hostile)
    depth = min(name.count("."), 40)
    levels = [page.tags.count(t) - Page(plain).tags.count(t) for t in ("ul", "li", "details")]
    assert all(0 <= level <= 2 * depth + 2 for level in levels)
    same = [[t for t in Page(p).tags if t not in _FOLDS] for p in (hostile, plain)]
    assert same[0] == same[1]
    assert page.tags.count("script") == 2 and "img" not in page.tags
    assert not [a for a, _ in page.attributes if a.startswith("on")]
    assert all(c.isprintable() or c == "\n" for c in hostile)
    assert len(without_json(hostile)) < 120_000
    assert Report.from_dict(json.loads(embedded_json(hostile)))[0].name == name


_FOLDS = ("ul", "li", "details", "summary", "bdi", "b")


def test_only_the_pages_own_script_and_style_are_allowed():
    page = failing().to_html()
    policy = re.search('Security-Policy" content="([^"]*)"', page)[1]
    for tag in ("style", "script"):
        inline = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert not re.search(r"(?i)\bsrc=|url\(|@import|https?:", without_json(page))


def test_the_verdict_and_the_findings_come_first():
    report = failing()
    html = report.to_html()
    page = Page(html).text
    counts = [sum(f.severity == s for f in report.findings) for s in ("error", "warning")]
    errors, warnings = (
        f"{n} {s}{'s' * (n > 1)}" for n, s in zip(counts, ("error", "warning"), strict=True)
    )
    assert counts[0] and f"<title>{errors}" in html and f"<h1>{errors}" in html
    assert not counts[1] or warnings in re.search("<h1>(.*)</h1>", html)[1]
    for finding in report.findings:
        for text in (finding.measured, finding.source, finding.cause, finding.advice):
            assert " ".join(text.split()) in page
        assert f'<a href="#layer-{finding.first}">' in html
        assert " ".join(finding.code.split()) in page
    assert html.index("<h1>") < html.index('class="card') < html.index("<svg")
    assert 'id="layer-1" class=nonfinite' in html and "NaN or infinity in layer 1" in page
    for item in report.skipped_checks:
        assert item.reason in page
    healthy = Page(Report([layer("x")]).to_html()).text
    assert "no errors or warnings" in healthy and "Nothing that was checked is wrong." in healthy


def test_many_findings_are_folded_after_the_first():
    bad = Weight(8, 8, Moments(64, mean=0.0, m2=63.0 * 1e6, min=-9e3, max=9e3))
    layers = [layer(f"{i}", "linear + tanh", std=1.0, weight=bad) for i in range(12)]
    report = Report(layers)
    html = report.to_html()
    assert html.count("<article") == len(report.findings)
    if len(report.findings) > 6:
        assert f"<summary>{len(report.findings) - 6} more</summary>" in html


def test_the_report_is_read_back_from_its_page():
    norm = nn.GroupNorm(1, 16)
    for name in ("m2", "std", "inf"):  # names of statistics, too
        norm.register_parameter(name, nn.Parameter(torch.ones(4)))
    report = profile(nn.Sequential(norm, mlp(3)), torch.randn(8, 16), loss=torch.sum)
    assert list(report[0].vectors) == ["weight", "bias", "m2", "std", "inf"]
    assert Report.from_dict(json.loads(embedded_json(report.to_html()))).layers == report.layers
    with pytest.raises(ValueError, match="has no report in it"):
        embedded_json("<html></html>")
    page = report.to_html()
    packed = re.search('(?<=base85">)[^<]*', page)[0]
    for damaged in (packed[:-8], "!" + packed, "A" * len(packed)):
        with pytest.raises(ValueError, match="is damaged"):
            embedded_json(page.replace(packed, damaged))


@pytest.mark.parametrize(
    "report",
    [
        Report([]),
        Report([layer()]),
        Report([layer(post=NAN), layer("1", post=NAN)]),
        Report([layer(post=Moments())]),
        Report([layer(std=0.0, post=Moments(4, zero=4, mean=0.0, min=0.0, max=0.0))]),
        Report([layer(std=1e-160), layer("1", std=1e150)]),
    ],
    ids=["empty", "one layer", "nothing finite", "no element", "all zero", "far apart"],
)
def test_reports_at_the_edges(report):
    html = report.to_html(beside=Report([layer("other")]))
    page = Page(html)
    assert page.tags.count("svg") == 1
    drawn = re.search("<svg.*</svg>", html, re.DOTALL)[0]
    assert not re.search(r"(?i)\b(nan|inf)\b", re.sub("<title>.*?</title>", "", drawn))
    assert html.count("<tr id=") == len(report)


def test_a_page_that_an_older_initfast_wrote_is_read():
    packed = base64.b64encode(zlib.compress(b'{"layers": []}')).decode()
    old = f'<script type="text/plain" id="report-json-zlib-base64">{packed}</script>'
    assert embedded_json(old) == '{"layers": []}'


def test_the_prediction_is_drawn_and_listed():
    net = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.LogSoftmax(-1), nn.Linear(16, 16))
    report = profile(net, torch.randn(8, 16))
    html = report.to_html(beside=report)
    band = re.findall('class="band c1" d="M([^"]*)Z"', html)
    line = re.search('class="curve c1 r0" d="M([^"]*)"', html)[1].split("L")
    assert len(band) == 1 and len(line) == 2
    upper, lower = [float(p.split()[1]) for p in (band[0].split("L")[0], band[0].split("L")[-1])]
    assert upper < float(line[0].split()[1]) < lower
    page = Page(html)
    assert "predicted" in page.text and "predicted (beside)" not in page.text
    assert number(report.predicted[0].cumulative.rms) in page.text


def points(html, style):
    path = re.search(f'class="{style}" d="M([^"]*)"', html)[1]
    return [tuple(map(float, p.split())) for p in path.split("L")]


def test_the_curve_lies_where_the_numbers_say():
    """Equal factors are equal heights, and an end of a dtype's range stands among them."""
    layers = [layer(str(i), post=Moments(4, mean=10.0**i, min=0.0, max=1.0)) for i in range(6)]
    html = Report(layers).to_html()
    xs, ys = zip(*points(html, "curve c0 r0"), strict=True)
    steps = [b - a for a, b in pairwise(ys)]
    assert all(step == pytest.approx(steps[0], abs=0.2) and step < 0 for step in steps)
    assert [b - a for a, b in pairwise(xs)] == pytest.approx([xs[1] - xs[0]] * 5, abs=0.2)
    top = re.search(r'class="range" x="[^"]*" y="([^"]*)" [^>]*>float16&#x27;s largest', html)
    expected = ys[0] + steps[0] * 4.8164  # log10(65504)
    assert float(top[1]) + 4 == pytest.approx(expected, abs=0.5)
    assert "bfloat16&#x27;s largest" not in html


def test_blocks_that_repeat_stand_in_the_tree_once_from_least_to_most():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x):
            return x + self.narrow(self.wide(self.norm(x)).relu())

    flat = [m for _ in range(5) for m in (nn.Conv1d(3, 3, 3, padding=1), nn.BatchNorm1d(3))]
    net = nn.Sequential(*flat, nn.Sequential(*[Block() for _ in range(6)]))
    report = profile(net, torch.randn(4, 3, 8))
    html = re.search('<ul class="tree">.*?</section>', report.to_html(), re.DOTALL)[0]
    tree = Page(html).text
    for piece in ("0 to 8 × 5 Conv1d", "1 to 9 × 5 BatchNorm1d", "0 to 5 × 6", "wide × 6"):
        assert piece in tree
    stds = [report[f"10.{i}.wide"].std for i in range(6)]
    assert f"std {min(stds):.4f} to {max(stds):.4f}" in tree
    assert tree.count("wide") == 1


def test_two_reports_are_compared_by_name_op_and_call():
    one = Report([layer("a", std=2.0), layer("a", std=6.0), layer("b", std=1.0)])
    two = Report([layer("new"), layer("a", std=1.0), layer("a", std=3.0)])
    html = one.to_html(beside=two)
    assert [
        re.findall("<td>([^<]*)", row)[-2:] for row in re.findall("<tr id=.*?(?=<tr|</tb)", html)
    ] == [
        ["1.000", "2.000"],
        ["3.000", "2.000"],
        ["", ""],
    ]
    assert "<bdi>new</bdi>" in html and html.count("Findings beside") == 1
    assert " beside ".join(["no errors or warnings"] * 2) in html
    assert 'class="curve c0 r1"' in html


def test_what_the_json_says_in_a_word_stands_at_the_top(monkeypatch):
    plain = Report.to_dict
    more = {"seed": 7, "versions": {"torch": "2.13.0"}, "date": "2026-01-02"}
    monkeypatch.setattr(Report, "to_dict", lambda self: plain(self) | more)
    page = Page(profile(nn.Linear(4, 2), torch.ones(3, 4)).to_html()).text
    for text in (
        "net Linear",
        "input 3x4",
        "dtype float32",
        "seed 7",
        "torch 2.13.0",
        "2026-01-02",
    ):
        assert text.replace(" ", "") in page.replace(" ", "")


def test_the_file_is_what_is_returned(tmp_path):
    path = tmp_path / "report.html"
    text = Report([layer("\ud800é")]).to_html(path)
    assert path.read_text(encoding="utf-8") == text == html_page(Report([layer("\ud800é")]))
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        Report([layer()]).to_html(tmp_path / "nowhere" / "report.html")


def test_a_report_without_layers_is_a_page():
    assert Page(html_page(Report([]))).text
