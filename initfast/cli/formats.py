"""--format: the outcome of a run as text, JSON, HTML or CSV; JUnit and GitHub stand beside."""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from initfast.cli.failure import Failure
from initfast.cli.github import github_commands
from initfast.cli.junit import junit_xml
from initfast.cli.outcome import Outcome
from initfast.report.dataframe import flat_rows
from initfast.stats.as_dict import json_text
from initfast.stats.text import printable
from initfast.whole_file import write_whole


def as_text(outcome: Outcome) -> str:
    """The report as it prints, and what has changed since the baseline."""
    changes = [] if outcome.comparison is None else ["", str(outcome.comparison)]
    return "\n".join([str(outcome.report), *changes])


def as_json(outcome: Outcome) -> str:
    """The report, which `Report.from_dict` reads, with the comparison beside it."""
    if outcome.comparison is None:
        return outcome.report.to_json()
    plain = outcome.report.to_dict() | {"comparison": outcome.comparison.to_dict()}
    return json_text(plain)


def as_csv(outcome: Outcome) -> str:
    """One row for each layer, with the columns of `Report.to_dataframe`, names made printable."""
    columns, rows = flat_rows(outcome.report.layers)
    for row in rows:
        row["name"] = printable(row["name"])
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def as_html(outcome: Outcome) -> str:
    """The page that `Report.to_html` makes."""
    return outcome.report.to_html()


WITHOUT_COMPARISON = ("html", "csv")
"""Formats that have no place for what changed since the baseline."""

FORMATS: dict[str, Callable[[Outcome], str]] = {
    "text": as_text,
    "json": as_json,
    "html": as_html,
    "junit": junit_xml,
    "github": github_commands,
    "csv": as_csv,
}


def check_output(path: str | None, option: str = "--output") -> None:
    """Know before a long run that its result can be written."""
    if path is None:
        return
    if Path(path).is_dir():
        raise Failure(f"{option} {path} is a folder; expected a file")
    if not Path(path).parent.is_dir():
        raise Failure(f"{option} {path}: there is no folder {str(Path(path).parent)!r}")


def write(text: str, path: str | None) -> None:
    """Write to standard output, or whole or not at all to a file.

    A reader of standard output that has gone, as `| head` goes, is no error.

    Raises:
        Failure: the file cannot be written.
    """
    if path is None:
        try:
            print(text, flush=True)
        except BrokenPipeError:
            drop_output()
        except OSError as error:
            drop_output()
            raise Failure(f"cannot write standard output: {error.strerror}") from error
        return
    try:
        write_whole(path, f"{text}\n".encode())
    except OSError as error:
        raise Failure(f"--output {printable(path)}: {error.strerror or error}") from error


def drop_output() -> None:
    """Where nobody reads standard output, drop what waits for it, also when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_COLOURS = {"error": "31;1", "warning": "33;1", "changed": "33", "vanished": "33", "appeared": "33"}


def coloured(text: str) -> str:
    """The first words of findings and changes in colour, on a terminal that is not to be plain.

    https://no-color.org: any value of NO_COLOR but the empty one says so.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    words = "|".join(_COLOURS)
    return re.sub(
        rf"^({words}):", lambda m: f"\x1b[{_COLOURS[m[1]]}m{m[1]}:\x1b[0m", text, flags=re.MULTILINE
    )
