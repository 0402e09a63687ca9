"""What bench.py measures where time is short, and that a cut run leaves its figures."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("bench")
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


class Machine:
    """Runs each once and gives them one second."""

    def compare(self, runs):
        for run in runs:
            run()
        ones = [1.0] * len(runs)
        return argparse.Namespace(seconds=ones, ratios=ones, best_ratios=ones)


def case(bench, name, ran):
    peers = [
        bench.Peer(f"{each}, alone", lambda: lambda: None) for each in ("torch.compile", "hook")
    ]
    references = [bench.Reference("reference", lambda: None)]
    case_module = importlib.import_module("case")
    return bench.Case(
        "group", name, lambda: case_module.Work(lambda: ran.append(name), references, peers)
    )


def options(**given):
    return argparse.Namespace(
        **{"only": "case", "budget": 1e9, "compile": True, "quick": True, **given}
    )


def test_no_case_begins_after_the_budget_is_spent(bench, monkeypatch):
    ran = []
    cases = [case(bench, f"case {i}", ran) for i in range(3)]
    monkeypatch.setattr(bench, "suite_cases", lambda machine: iter(cases))
    clock = iter([0.0, 1.0, 11.0])
    monkeypatch.setattr(bench.time, "monotonic", lambda: next(clock))
    with pytest.raises(bench.OutOfTime, match="10 s are over: from 'case 1' on"):
        list(bench.measured(Machine(), options(budget=10.0)))
    assert set(ran) == {"case 0"}


def test_what_torch_compiles_can_be_left_out(bench, monkeypatch):
    monkeypatch.setattr(bench, "suite_cases", lambda machine: iter([case(bench, "case", [])]))
    every = [line.name for line in bench.measured(Machine(), options())]
    assert every == ["case", "torch.compile, alone", "hook, alone"]
    some = [line.name for line in bench.measured(Machine(), options(compile=False))]
    assert some == ["case", "hook, alone"]


def test_a_file_of_figures_is_whole_at_any_time(bench, tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    bench.write_json(path, {}, [bench.Line("group", "case", "reference", 1.0, 1.0, 1.0)], [])
    before = path.read_text()

    def fail(document, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.json, "dumps", fail)
    with pytest.raises(KeyboardInterrupt):
        bench.write_json(path, {}, [], [])
    assert path.read_text() == before
    assert [line["name"] for line in json.loads(before)["lines"]] == ["case"]
