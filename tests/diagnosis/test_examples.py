"""The examples of findings that users read are what is said now."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cases.switches import LONG

from initfast.diagnosis.diagnosing import RULES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAGE = (BENCHMARKS / "findings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES)
def test_every_check_has_an_example(rule):
    section = PAGE.split(f"\n## {rule.replace('_', ' ')}\n")[1].split("\n## ")[0]
    assert RULES[rule].what in section
    assert re.search(rf"\n(error|warning|info): {rule.replace('_', ' ')} in ", section)


@pytest.mark.skipif(not LONG, reason="INITFAST_LONG_FUZZ=1 runs it")
def test_the_examples_are_those_of_today():
    """But for their numbers, which depend on the machine's arithmetic."""
    code = "import findings; print(findings.page(findings.examples()), end='')"
    run = [sys.executable, "-W", "ignore", "-c", code]
    usual = {k: v for k, v in os.environ.items() if k != "INITFAST_LONG_FUZZ"}
    done = subprocess.run(run, cwd=BENCHMARKS, env=usual, capture_output=True, text=True)
    assert words(done.stdout) == words(PAGE), done.stderr


def words(text):
    return re.sub(r"[\d.+%×-]+(e[+-]?\d+)?", "#", " ".join(text.split()))
