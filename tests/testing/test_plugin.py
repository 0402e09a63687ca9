"""The pytest plugin, in runs of pytest of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import initfast

pytest_plugins = ["pytester"]

PLUGIN = Path(initfast.__file__).parent / "testing" / "plugin"

TESTS = """
import torch
from torch import nn

def net(std):
    torch.manual_seed(0)
    layers = [m for _ in range(8) for m in (nn.Linear(32, 32), nn.ReLU())]
    made = nn.Sequential(*layers)
    for linear in made[::2]:
        nn.init.normal_(linear.weight, std=std)
    return made, torch.randn(16, 32)

def test_healthy(initfast):
    assert len(initfast.assert_healthy(*net(0.25))) == 8

def test_unhealthy(initfast):
    initfast.assert_healthy(*net(2.0))

def test_unchanged(initfast):
    initfast.assert_unchanged(*net(STD))
    initfast.assert_unchanged(*net(0.25), name="other")
"""


@pytest.fixture
def run(pytester, monkeypatch):
    monkeypatch.syspath_prepend(PLUGIN)

    def run(*arguments, std=0.25):
        pytester.makepyfile(TESTS.replace("STD", str(std)))
        return pytester.runpytest_inprocess(
            "-p", "initfast_pytest", "-p", "no:cacheprovider", *arguments
        )

    return run


def test_the_baseline_is_written_and_compared_with(run, pytester):
    file = "--initfast-baseline=init.json"
    missing = run(file, "--initfast-update", "-k", "unchanged")
    missing.assert_outcomes(passed=1, deselected=2)
    kept = json.loads((pytester.path / "init.json").read_text())
    name = "test_the_baseline_is_written_and_compared_with.py::test_unchanged"
    assert list(kept["reports"]) == [name, f"{name}[other]"]
    done = run(file)
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*AssertionError: error: explosion in layers 0 to 7*"])
    done = run(file, "-k", "unchanged", std=0.3)
    done.assert_outcomes(failed=1, deselected=2)
    done.stdout.fnmatch_lines(["*changed: 0: std *weight std 0.2*"])


def test_without_a_baseline_a_comparison_fails(run, pytester):
    done = run("-k", "unchanged")
    done.assert_outcomes(failed=1, deselected=2)
    done.stdout.fnmatch_lines(["*assert_unchanged needs pytest's --initfast-baseline FILE*"])
    (pytester.path / "init.json").write_text('{"schema": 1, "reports": {}}')
    done = run("--initfast-baseline=init.json", "-k", "unchanged")
    done.stdout.fnmatch_lines(["*init.json has no report of *; write it with --initfast-update*"])
    (pytester.path / "init.json").write_text('{"schema": 7}')
    done = run("--initfast-baseline=init.json", "-k", "unchanged")
    done.stdout.fnmatch_lines(["*init.json is no baseline of schema 1 (its schema is 7)*"])


def test_an_update_needs_a_file(run):
    done = run("--initfast-update")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*--initfast-update needs --initfast-baseline FILE*"])


def test_nothing_is_imported_until_a_test_asks(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    assert not {'torch', 'initfast'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "initfast_pytest"]
    environment = os.environ | {"PYTHONPATH": str(PLUGIN)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
