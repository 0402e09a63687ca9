"""--format junit: each check a test case, as every CI reads it."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from initfast.cli.outcome import Outcome
from initfast.diagnosis.diagnosing import RULES
from initfast.stats.text import printable


def junit_xml(outcome: Outcome) -> str:
    """A suite with a case for each check, and one for the baseline.

    A finding at the level that fails the run is a failure; one below it stands in the case's
    output; a check that was not made is skipped, with its reason.
    """
    suite = ElementTree.Element("testsuite", name="initfast")
    skipped = {check.rule: check.reason for check in outcome.report.skipped_checks}
    failed = {id(finding) for finding in outcome.failures}
    for rule in RULES:
        found = [finding for finding in outcome.report.findings if finding.rule == rule]
        bad = [str(finding) for finding in found if id(finding) in failed]
        case = _case(suite, outcome.target, rule, bad)
        mild = [str(finding) for finding in found if id(finding) not in failed]
        if mild:
            ElementTree.SubElement(case, "system-out").text = _clean("\n".join(mild))
        if not found and rule in skipped:
            ElementTree.SubElement(case, "skipped", message=_clean(skipped[rule]))
    if outcome.comparison is not None:
        _case(suite, outcome.target, "baseline", outcome.comparison.lines())
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, "unicode")


def _case(
    suite: ElementTree.Element, target: str, name: str, failures: Sequence[str]
) -> ElementTree.Element:
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(target), name=name)
    if failures:
        head = failures[0].splitlines()[0]
        failure = ElementTree.SubElement(case, "failure", message=_clean(head), type=name)
        failure.text = _clean("\n".join(failures))
    return case


def _clean(text: str) -> str:
    """Without control characters, which XML has no way to write."""
    return "\n".join(map(printable, text.split("\n")))
