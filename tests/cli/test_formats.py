"""What the formats of `initfast profile` say, colours, and progress."""

import csv
import io
import sys
import time
from xml.etree import ElementTree

import pytest
from cases.commands import NETS, profile

from initfast.cli import progress
from initfast.cli.formats import coloured
from initfast.diagnosis.diagnosing import RULES

pytestmark = pytest.mark.usefixtures("folder")


def test_csv_has_the_data_frames_columns(capsys):
    assert profile("toys:sound", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[3]["name"] == "3.fc" and float(rows[3]["weight_std"]) > 0
    assert list(rows[0])[:3] == ["name", "op", "type"]


def test_control_characters_of_names_are_inert_in_csv(folder, capsys):
    lines = "class Odd(nn.Sequential):\n    def __init__(self):\n        super().__init__()\n"
    lines += "        self.add_module('a\\x1b[31m\\0\\n', nn.Linear(64, 4))\n"
    (folder / "odd.py").write_text(f"from torch import nn\n\n{lines}")
    assert profile("odd.py:Odd", "--format", "csv") == 0
    assert r"a\x1b[31m\x00\n,linear," in capsys.readouterr().out


def test_junit_has_a_case_for_each_check(capsys):
    assert profile("toys:loud", "--format", "junit") == 1
    (suite,) = ElementTree.fromstring(capsys.readouterr().out)
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == list(RULES)
    assert "explosion in layers 0 to 11" in cases["explosion"].find("failure").text
    assert cases["weight_scale"].find("failure") is None  # a warning is below the level
    assert "warning: weight scale" in cases["weight_scale"].find("system-out").text
    assert "loss" in cases["gradient_explosion"].find("skipped").get("message")
    assert [suite.get("failures"), suite.get("tests")] == ["1", str(len(RULES))]


def test_github_points_at_the_class_and_writes_the_summary(folder, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert profile("toys:loud", "--format", "github") == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    line = NETS.splitlines().index("class Block(nn.Module):") + 1
    assert first.startswith(f"::error file=toys.py,line={line},title=explosion in layers 0 to 11 (")
    assert "%0A" in first and first.count("::") == 2
    assert last.startswith("toys:loud: 1 error, 1 warning")
    summary = (folder / "summary.md").read_text()
    assert summary.startswith("### initfast: `toys:loud`\n\n1 error") and "explosion" in summary


def test_colour_on_terminals_only(monkeypatch):
    text = "error: explosion\n    warning: none\nchanged: 0"
    assert coloured(text) == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured(text).startswith(
        "\x1b[31;1merror:\x1b[0m explosion\n    warning: none\n\x1b[33m"
    )
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured(text) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_is_shown_on_terminals_after_a_while(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with progress.Progress() as shown:
        shown.stage("profiling x")
        shown.at(1, 4)
        while stream.isatty() and "profiling x" not in stream.getvalue():
            time.sleep(0.01)
    if stream.isatty():
        assert "1 of 4, about 0 s left" in stream.getvalue()
        assert stream.getvalue().endswith("\r\x1b[K")
    else:
        assert stream.getvalue() == ""


def test_the_estimate_is_in_proportion(monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 100.0)
    shown = progress.Progress()
    shown.stage("profiling")
    shown.at(1, 4)
    assert shown.line(110.0) == "profiling: 10 s, 1 of 4, about 30 s left"
