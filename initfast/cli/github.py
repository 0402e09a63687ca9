"""--format github: annotations on a pull request, and the summary of a step, as Markdown."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

from initfast.cli.failure import Failure
from initfast.cli.outcome import Outcome
from initfast.cli.sources import Place

_KINDS = {"error": "error", "warning": "warning", "info": "notice"}
"""GitHub's words for severities."""


def github_commands(outcome: Outcome) -> str:
    """A workflow command for each finding and each change, then the verdict.

    https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    """
    lines = []
    for finding in outcome.report.findings:
        title = f"{finding.rule.replace('_', ' ')} in {finding.where}"
        text = str(finding).partition("\n")[2]
        place = outcome.place(finding.names[0])
        lines.append(_command(_KINDS[finding.severity], title, text, place))
    for name, change in outcome.comparison.rows() if outcome.comparison else ():
        title = f"initialisation of {outcome.target}"
        lines.append(_command("error", title, change, outcome.place(name)))
    _write_summary(outcome)
    return "\n".join([*lines, f"{outcome.target}: {outcome.verdict}"])


def _command(kind: str, title: str, text: str, place: Place | None) -> str:
    where = [] if place is None else [f"file={_property(place.file)}", f"line={place.line}"]
    properties = ",".join([*where, f"title={_property(title)}"])
    return f"::{kind} {properties}::{_data(dedent(text))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _write_summary(outcome: Outcome) -> None:
    """Append Markdown to the step's summary, where the workflow has one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    changes = [str(outcome.comparison)] if outcome.comparison else []
    text = "\n\n".join([str(outcome.report), *changes])
    fence = "`" * 3
    while fence in text:
        fence += "`"
    title = outcome.target.replace("`", "'")
    summary = f"### initfast: `{title}`\n\n{outcome.verdict}\n\n{fence}text\n{text}\n{fence}\n"
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(summary)
    except OSError as error:
        raise Failure(f"GITHUB_STEP_SUMMARY {path}: {error.strerror}") from error
