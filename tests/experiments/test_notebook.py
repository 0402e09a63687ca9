"""The notebook runs from its first cell to its last, and shows what it says."""

import re
from pathlib import Path

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

PATH = Path(__file__).parents[2] / "benchmarks/notebooks/why_does_my_net_not_train.ipynb"


@pytest.fixture(scope="module")
def executed():
    notebook = nbformat.read(PATH, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # its nets are small
        ExecutePreprocessor(timeout=300, kernel_name="python3").preprocess(notebook)
    return notebook


def outputs(notebook):
    return [one for cell in notebook.cells for one in cell.get("outputs", [])]


def test_every_figure_is_shown_and_nothing_is_complained_of(executed):
    shown = outputs(executed)
    assert all(one.output_type in ("stream", "execute_result") for one in shown)
    assert all(one.name == "stdout" for one in shown if one.output_type == "stream")
    figures = [one for one in shown if "<svg" in one.get("data", {}).get("image/svg+xml", "")]
    assert len(figures) == 5
    assert len(nbformat.writes(executed)) < 800_000


def test_the_fault_is_found_and_the_repaired_net_trains(executed):
    text = "".join(one.text for one in outputs(executed) if one.output_type == "stream")
    assert "error: weight scale in layers 1 to 8" in text
    assert any("initfast.repair_(net" in cell.source for cell in executed.cells)
    assert "after: 0 errors, 0 warnings" in text
    losses = re.search(r"training: ([\d.]+) before, ([\d.]+) after", text)
    assert float(losses[1]) > 0.5 and float(losses[2]) < 0.1
