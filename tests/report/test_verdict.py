"""The verdict on a net, the error of the same, and how a report, a layer and a finding show."""

import pickle

import pytest
import torch
from cases.findings import layer as measured
from cases.findings import moments
from cases.reports import layer, mlp
from torch import nn

from initfast.diagnosis.findings import Finding, SkippedCheck, summary_html
from initfast.profiling.profile import profile
from initfast.report.report import Report
from initfast.report.verdict import FindingsError, verdict


def finding(severity, rule="collapse"):
    place = {"first": 3, "last": 3, "names": ("a.<b>", "a.<b>")}
    numbers = {"measured": "m", "value": 1.0, "threshold": 2.0, "source": "s"}
    return Finding(rule=rule, severity=severity, **place, **numbers)


LOSS = [SkippedCheck("gradient_vanishing", "r"), SkippedCheck("gradient_explosion", "r")]


@pytest.mark.parametrize(
    "severities, skipped, loss, words",
    [
        ("", [], True, "no errors or warnings"),
        ("iii", [], True, "no errors or warnings"),
        ("ee", [], True, "2 errors"),
        ("eew", [], True, "2 errors, 1 warning"),
        ("ww", [], True, "no errors, 2 warnings"),
        (
            "",
            LOSS,
            False,
            "no errors or warnings; 2 checks were not made: pass loss= to judge gradients",
        ),
        (
            "e",
            LOSS[:1],
            True,
            "1 error; 1 check was not made: gradient vanishing (report.skipped_checks says why)",
        ),
        (
            "",
            [*LOSS, SkippedCheck("dead_units", "r"), SkippedCheck("dead_units", "other")],
            False,
            "no errors or warnings; 3 checks were not made: pass loss= to judge gradients; "
            "dead units (report.skipped_checks says why)",
        ),
        (
            "",
            [*LOSS, SkippedCheck("recurrent", 'pass measure="recurrent" for the steps')],
            False,
            "no errors or warnings; 3 checks were not made: pass loss= to judge gradients; "
            'pass measure="recurrent" to judge each step',
        ),
        (
            "e",
            [SkippedCheck(rule, "r") for rule in ("a", "b", "c", "d", "e_f")],
            True,
            "1 error; 5 checks were not made: a, b, c, 2 more (report.skipped_checks says why)",
        ),
    ],
)
def test_the_verdict(severities, skipped, loss, words):
    names = {"e": "error", "w": "warning", "i": "info"}
    assert verdict([finding(names[s]) for s in severities], skipped, loss) == words


@pytest.mark.parametrize("loss", [None, torch.sum])
@pytest.mark.parametrize("scale", [1.0, 1e3, float("nan")])
def test_every_report_ends_with_it(loss, scale):
    report = profile(mlp(12), scale * torch.randn(8, 16), loss=loss)
    errors = sum(f.severity == "error" for f in report.findings)
    end = " ".join(
        str(report).rpartition("\n")[0].split() + str(report).rpartition("\n")[2].split()
    )
    assert end.endswith(report.verdict) and f"{errors or 'no'} error" in report.verdict
    assert ("pass loss=" in report.verdict) == (loss is None)
    assert report.verdict in report._repr_html_() and repr(report).startswith("Report(12 layers, ")


def saturated():
    post, pre = moments(saturated=9000), moments(std=10.0)
    return Report([measured("linear + tanh", name="<a>", post=post, pre=pre)])


def test_check_raises_with_the_findings_as_its_text():
    report = saturated()
    with pytest.raises(FindingsError) as caught:
        report.check()
    assert str(caught.value) == str(report.findings[0]) and caught.value.findings == report.findings
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    sound = Report([layer()])
    for level in ("error", "warning", "info"):
        sound.check(level)
    with pytest.raises(ValueError, match="level is 'fatal'; expected one of error, warning, info"):
        sound.check("fatal")


def test_a_level_counts_those_above_it():
    torch.manual_seed(0)
    report = profile(nn.Sequential(*mlp(3), nn.Linear(16, 16)), torch.randn(64, 16))
    severities = {f.severity for f in report.findings}
    assert severities == {"info"}
    report.check("warning")
    with pytest.raises(FindingsError, match="unit variance"):
        report.check("info")


def test_reprs_are_short_and_in_one_line():
    report = saturated()
    one, found = report[0], report.findings[0]
    assert repr(one) == (
        "Layer('<a>', 'linear + tanh', shape=(100, 100), mean=0, std=1.000, saturated=90%)"
    )
    assert repr(found) == "Finding(error: saturation in layer 0 ('<a>'))"
    assert repr(report) == "Report(1 layers, 1 error)"
    assert "\\n" not in repr([one, *report.findings, report])


def test_html_shows_findings_by_severity():
    report = saturated()
    text = report._repr_html_()
    assert "<summary>1 error</summary>" in text and "<details open>" in text
    assert "<a>" not in text and "&lt;a&gt;" in text
    for one in (report[0], report.findings[0]):
        assert "<a>" not in one._repr_html_() and "&lt;a&gt;" in one._repr_html_()
    assert "saturated 9000" in report[0]._repr_html_()
    several = summary_html([finding("info"), finding("warning")])
    assert several.index("1 warning") < several.index("1 info")
