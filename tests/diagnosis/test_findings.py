"""Findings in words."""

import pytest
from cases.findings import layer, moments

import initfast
from initfast.diagnosis import diagnosing
from initfast.diagnosis.findings import MOST_SHOWN, Finding
from initfast.report.report import Report


def finding(**more):
    plain = {
        "rule": "collapse",
        "severity": "warning",
        "first": 3,
        "last": 3,
        "names": ("a", "a"),
        "measured": "m",
        "value": 1.0,
        "threshold": 2.0,
        "source": "s",
    }
    return Finding(**(plain | more))


def test_a_finding_in_words():
    assert finding().where == "layer 3 ('a')"
    assert finding(last=5, names=("", "b")).where == "layers 3 to 5 (the net to 'b')"
    text = str(finding(cause="c", advice="d", code="x = 1"))
    assert text.splitlines() == [
        "warning: collapse in layer 3 ('a')",
        "    m [s]",
        "    Why: c",
        "    Do: d",
        "        x = 1",
    ]


def test_only_the_worst_findings_are_spelled_out():
    layers = [
        layer(
            "linear + tanh",
            name=f"{i}{'x' * i}",
            post=moments(saturated=9000),
            pre=moments(std=10.0),
        )
        for i in range(4)
    ]
    layers = [m for one in layers for m in (one, *[layer("Other")] * 3)]
    report = Report(layers * 3)
    serious = [f for f in report.findings if f.severity != "info"]
    assert len(serious) == 12
    assert str(report).count("error: saturation") == MOST_SHOWN
    assert "also in report.findings: 8 error saturation" in str(report)
    assert "error: saturation" in report._repr_html_()


def test_the_checks_are_where_a_finding_says():
    assert initfast.diagnosis.RULES is diagnosing.RULES
    assert initfast.diagnosis.diagnose is initfast.diagnose is diagnosing.diagnose
    assert dir(initfast.diagnosis) == ["RULES", "diagnose"]
    with pytest.raises(AttributeError, match="has no attribute 'rule'"):
        initfast.diagnosis.rule  # noqa: B018


def test_a_line_of_many_names_that_no_break_makes_short_stays_one_line():
    code = f"for name in {[f'layers.{i}.weight' for i in range(40)]}:\n    pass"
    assert f"        {code.splitlines()[0]}" in str(finding(code=code)).splitlines()
