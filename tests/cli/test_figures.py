"""``python -m initfast --plot DIR``."""

import re
import sys

import pytest

from initfast.cli.figures import write_figure
from initfast.cli.main import main
from initfast.experiments import EXPERIMENTS, fading
from initfast.experiments.results import Result


def texts(path):
    return re.findall("<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def test_each_experiment_is_drawn(tmp_path, capsys):
    assert main(["--plot", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(EXPERIMENTS)
    shown = {name: " ".join(texts(tmp_path / f"{name}.svg")) for name in EXPERIMENTS}
    titles = [block.splitlines()[0] for block in printed.split("\n\n")]
    for title, words in zip(titles, map(shown.get, EXPERIMENTS), strict=True):
        assert title in words
    assert "xavier_uniform_" in shown["xavier"] and "predicted" in shown["exploding"]
    assert "1.5925 exactly" in shown["gain"] and "Lyapunov" in shown["product"]
    assert "its derivative" in shown["sigmoid"]


def test_the_curves_are_those_of_the_experiment(tmp_path):
    result = fading(3)
    write_figure(result, 3, tmp_path / "a.svg")
    assert {"measured", "predicted"} <= set(texts(tmp_path / "a.svg"))
    with pytest.raises(TypeError, match="no figure shows a Result"):
        write_figure(Result(title="", lesson="", source=""), 0, tmp_path / "b.svg")


def test_what_goes_wrong_is_one_line_and_status_2(tmp_path, capsys, monkeypatch):
    def said(arguments):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    missing = str(tmp_path / "nowhere")
    assert f"there is no directory {missing!r}" in said(["sigmoid", "--plot", missing])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'initfast[plots]'" in said(["sigmoid", "--plot", str(tmp_path)])
    assert not list(tmp_path.iterdir())
