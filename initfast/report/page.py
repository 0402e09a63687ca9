"""A report as one HTML file that needs no network and no script, and holds the report's JSON.

What a net brings along, names of modules above all, is text here: it is escaped, and the page's
policy lets no script run but the one of page.js.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any, Protocol

from initfast.diagnosis.findings import Finding, SkippedCheck
from initfast.report.page_chart import chart
from initfast.report.page_json import embedded
from initfast.report.page_table import MOST_CHARACTERS, layer_table, name_html
from initfast.report.page_tree import layer_tree
from initfast.report.table import remarks
from initfast.report.verdict import found
from initfast.stats.as_dict import json_text, without_derived
from initfast.stats.layer import Layer, Skipped
from initfast.stats.moments import Moments
from initfast.stats.text import dtype_name, escape, number, printable, shorten

if TYPE_CHECKING:
    from initfast.prediction.prediction import Prediction

_MOST_CARDS = 6
"""So many findings stand open; the others are folded."""


class Shown(Protocol):
    """What a page shows: a report."""

    @property
    def layers(self) -> Sequence[Layer]:
        """In execution order."""

    @property
    def inputs(self) -> Sequence[Moments]:
        """The moments of the net's own inputs."""

    @property
    def findings(self) -> Sequence[Finding]:
        """What is wrong, worst first."""

    @property
    def skipped_checks(self) -> Sequence[SkippedCheck]:
        """What was not checked."""

    @property
    def predicted(self) -> Prediction:
        """What theory expects of the layers."""

    skipped: list[Skipped]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """What the report's JSON says."""


def html_page(report: Shown, beside: Shown | None = None) -> str:
    """The report as the text of an HTML file.

    Args:
        report: what is shown.
        beside: another report to compare it with.
    """
    data = report.to_dict()
    reports = [report] if beside is None else [report, beside]
    read = {name: _resource(f"page.{name}") for name in ("html", "css", "js")}
    verdicts = " beside ".join(found(one.findings) for one in reports)
    net = _line(_net(report))
    return Template(read["html"]).substitute(
        policy=_policy(read["css"], read["js"]),
        title=escape(f"{verdicts}: {net}" if net else verdicts),
        css=read["css"],
        js=read["js"],
        verdict=escape(verdicts),
        facts="".join(_facts(report, data)),
        findings="".join(_findings(one, which) for which, one in enumerate(reports)),
        unchecked=_listed("Not checked", [str(item) for item in report.skipped_checks]),
        remarks=_listed("Notes", remarks(report.notes, report.skipped)),
        chart=chart(report, beside),
        tree=layer_tree(report.layers),
        table=layer_table(
            report.layers, None if beside is None else beside.layers, list(report.predicted)
        ),
        json=embedded(json_text(without_derived(data), indent=None)),
    )


def _resource(name: str) -> str:
    return resources.files("initfast.report").joinpath(name).read_text(encoding="utf-8")


def _policy(css: str, js: str) -> str:
    """A content security policy: nothing is loaded, nothing runs but what has these digests."""
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, js)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _line(text: str) -> str:
    return shorten(text, MOST_CHARACTERS)


def _net(report: Shown) -> str:
    """The type of the net, as far as one of its layers is its output."""
    for layer in report.layers:
        for name, kind in zip(layer.names, (layer.type, *layer.also_types), strict=False):
            if not name and kind:
                return kind
    return ""


def _facts(report: Shown, data: Mapping[str, Any]) -> Iterator[str]:
    """What ran: the net, its input, dtypes, and all that the report's JSON says in one word."""
    dtypes = Counter(dtype_name(layer.dtype) for layer in report.layers)
    shape = report.layers[0].input_shape if report.layers else None
    known = {
        "net": _net(report),
        "layers": f"{len(report.layers)}",
        "input": "" if shape is None else "x".join(map(str, shape)) or "scalar",
        "input std": ", ".join(number(m.std) for m in report.inputs),
        "dtype": ", ".join(name for name, _ in dtypes.most_common()),
    }
    for name, value in (known | _plain(data)).items():
        if value:
            yield f"<li><span>{escape(_line(name))}</span> {escape(_line(value))}"


def _plain(data: Mapping[str, Any]) -> dict[str, str]:
    """The entries that are a text or a number, or a few of these by name."""
    found = {}
    for name, value in data.items():
        if isinstance(value, Mapping) and not any(
            isinstance(v, (list, dict)) for v in value.values()
        ):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        if isinstance(value, (str, int, float)) and name != "root":
            found[name.replace("_", " ")] = str(value)
    return found


def _findings(report: Shown, which: int) -> str:
    heading = "Findings beside" if which else "Findings"
    cards = [_card(f, linked=not which) for f in report.findings]
    first, rest = "".join(cards[:_MOST_CARDS]), "".join(cards[_MOST_CARDS:])
    shown = first or "<p>Nothing that was checked is wrong.</p>"
    if rest:
        more = len(cards) - _MOST_CARDS
        shown += f"<details><summary>{more} more</summary>{rest}</details>"
    label = f"findings-{which}"
    return f'<section aria-labelledby="{label}"><h2 id="{label}">{heading}</h2>{shown}</section>'


def _card(finding: Finding, linked: bool) -> str:
    parts = [("Why", finding.cause), ("Do", finding.advice)]
    texts = "".join(f"<p><b>{what}:</b> {_prose(text)}</p>" for what, text in parts if text)
    code = "\n".join(map(printable, finding.code.splitlines()))
    if code:
        texts += f'<pre class="code" tabindex="0" aria-label="code">{escape(code)}</pre>'
    return (
        f'<article class="card {escape(finding.severity)}"><h3><span class="severity">'
        f"{escape(finding.severity)}</span> {escape(_line(finding.rule.replace('_', ' ')))}</h3>"
        f"<p>{_where(finding, linked)}</p><p>{_prose(finding.measured)} "
        f"<cite>[{_prose(finding.source)}]</cite></p>{texts}</article>"
    )


def _where(finding: Finding, linked: bool) -> str:
    first, last = finding.first, finding.last
    text = f"layer {first}" if first == last else f"layers {first} to {last}"
    names = " to ".join(dict.fromkeys(map(name_html, finding.names)))
    return f'<a href="#layer-{first}">{text}</a>: {names}' if linked else f"{text}: {names}"


def _prose(text: str) -> str:
    return f"<bdi>{escape(shorten(text, 10 * MOST_CHARACTERS))}</bdi>"


def _listed(heading: str, texts: Iterable[str]) -> str:
    items = "".join(f"<li>{_prose(text)}" for text in texts)
    return f"<details><summary>{heading}</summary><ul>{items}</ul></details>" if items else ""
