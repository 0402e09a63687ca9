"""Imports run one way: down a table of layers, and in no circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "initfast").rglob("*.py"))
}

LAYERS = (
    ("errors", "torch_state", "undo_log", "collectives", "thresholds", "version", "whole_file"),
    ("ops", "shared_patch"),
    ("stats", "theory"),
    ("init",),
    ("nets", "prediction"),
    ("diagnosis", "recording", "plots"),
    ("report", "interception"),
    ("profiling",),
    ("experiments", "integrations", "repair", "testing"),
    ("cli",),
)
"""The lowest first. A package imports itself and what lies in lower layers, nothing else."""

FACE = ("initfast", "initfast.__main__")
"""What a user imports and runs: it lies above everything."""


def imports(name: str) -> Iterator[str]:
    """The modules of initfast that a module imports, within functions and for types too."""
    for node in ast.walk(ast.parse(SOURCES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in SOURCES)
        elif isinstance(node, ast.Call):
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            assert function not in ("import_module", "__import__") or name in FACE, name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            if node.module not in SOURCES:
                continue
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in SOURCES else node.module


def package(name: str) -> str:
    return name.split(".")[1]


def test_the_table_names_every_package_once():
    named = [name for layer in LAYERS for name in layer]
    there = {package(name) for name in SOURCES if name not in FACE}
    assert len(named) == len(set(named)) and set(named) == there
    assert len(LAYERS) <= 10


def test_imports_run_down():
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    wrong = [
        f"{name} imports {other}"
        for name in SOURCES
        if name not in FACE
        for other in imports(name)
        if other in FACE
        or (package(other) != package(name) and level[package(other)] >= level[package(name)])
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other():
    graph = {name: set(imports(name)) - {name} for name in SOURCES}
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_a_wrong_import_is_seen(tmp_path, monkeypatch):
    path = tmp_path / "low.py"
    path.write_text("def f():\n    from initfast.report import table\n")
    monkeypatch.setitem(SOURCES, "initfast.ops.low", path)
    assert list(imports("initfast.ops.low")) == ["initfast.report.table"]
    try:
        test_imports_run_down()
    except AssertionError as error:
        assert "initfast.ops.low imports initfast.report.table" in str(error)
    else:
        raise AssertionError("an import that runs up was not seen")


TABLES = {"tests/nets/nonfinite.py"}
"""Files of one long list of cases."""


def test_files_are_short_enough_to_hold_in_the_head():
    long = {}
    for folder in ("csrc", "initfast", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".h", ".inl", ".cpp", ".cu", ".cuh", ".js", ".css"):
                name = path.relative_to(ROOT).as_posix()
                lines = path.read_text(encoding="utf-8").count("\n")
                if lines > 300 and name not in TABLES:
                    long[name] = lines
    assert long == {}


def code_lines(node: ast.AST, lines: list[str]) -> int:
    """How many lines of a function are code: no comments, no docstrings, none that are empty."""
    text = ast.get_docstring(node, clean=False)
    first = node.body[1].lineno if text is not None and len(node.body) > 1 else node.body[0].lineno
    head = range(node.lineno - 1, node.body[0].lineno - 1)
    body = range(first - 1, node.end_lineno)
    return sum(bool(lines[i].strip()) and lines[i].lstrip()[0] != "#" for i in (*head, *body))


def test_functions_do_one_thing():
    """Of at most 40 lines of code."""
    long = {}
    for folder in ("initfast", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    count = code_lines(node, text.split("\n"))
                    if count > 40:
                        long[f"{path.relative_to(ROOT)}: {node.name}"] = count
    assert long == {}


def test_kernels_know_nothing_of_torch():
    """csrc/binding alone includes torch, and nothing of it is included from elsewhere."""
    for folder in ("math", "cpu", "cuda"):
        for path in sorted((ROOT / "csrc" / folder).iterdir()):
            lines = path.read_text(encoding="utf-8").splitlines()
            included = [line for line in lines if line.startswith("#include")]
            assert not [line for line in included if "torch" in line or "binding/" in line], path
    for path in sorted((ROOT / "csrc" / "math").iterdir()):
        text = path.read_text(encoding="utf-8")
        assert '#include "cpu/' not in text and '#include "cuda/' not in text, path
