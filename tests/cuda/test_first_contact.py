"""The stages of a first contact with a card, small: no error waits for the day there is one."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases.cuda import MARKS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STAGES = ("facts", "smoke", "timing", "profile")


def facts(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_a_rehearsal_without_a_card(tmp_path):
    words = ["--out", tmp_path, "--device", "cpu", "--small", "--budget", "3000"]
    script = BENCHMARKS / "first_contact.py"
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
    assert done.returncode == 0, (tmp_path / "log.txt").read_text()
    found = facts(tmp_path)
    outcomes = {f["stage"]: f["outcome"] for f in found if f["what"] == "stage"}
    assert [name for name in outcomes if outcomes[name] == "passed"] == list(STAGES)
    assert all("no card" in o for name, o in outcomes.items() if name not in STAGES)
    assert {f["what"] for f in found} >= {"machine", "bandwidth", "smoke", "time", "profile"}
    assert not [f for f in found if "error" in f]


def test_what_had_no_time_is_said(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    contact, first = (importlib.import_module(name) for name in ("contact", "first_contact"))
    results = contact.Results(tmp_path)
    options = argparse.Namespace(out=tmp_path, device="cuda", small=False, wheel=None)
    sleeps = first.Stage("sleeps", 0.2, (sys.executable, "-c", "import time; time.sleep(600)"))
    missing = first.Stage("missing", 5, ("no such program",))
    fails = first.Stage("fails", 60, (sys.executable, "-c", "raise SystemExit(3)"))
    for stage in (sleeps, missing, fails):
        assert not first.run(stage, options, results, left=100)
    assert not first.run(sleeps, options, results, left=-1)
    cut, unstarted, failed, late = [fact["outcome"] for fact in facts(tmp_path)]
    assert (cut, failed, late) == (
        "cut off at its time limit",
        "exit status 3",
        "left out: 0 s are left",
    )
    assert unstarted.startswith("could not start: ")


@pytest.mark.cuda
@MARKS[1]
def test_every_operator_on_a_card(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    contact, stages = (importlib.import_module(name) for name in ("contact", "contact_stages"))
    here = contact.Contact(contact.Results(tmp_path), torch.device("cuda"), small=True)
    stages.smoke(here)
    assert not [f for f in facts(tmp_path) if "error" in f]
