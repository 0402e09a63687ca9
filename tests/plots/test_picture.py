"""The picture of the README: small, and what its command draws."""

import re
import runpy
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def texts(path):
    return re.findall("<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def test_the_picture_is_what_its_command_draws(tmp_path, capsys):
    committed, drawn = BENCHMARKS / "signal.svg", tmp_path / "signal.svg"
    command = runpy.run_path(str(BENCHMARKS / "picture.py"))
    command["main"].__globals__["PICTURE"] = drawn
    command["main"]()
    assert "signal.svg" in capsys.readouterr().out
    assert texts(committed) == texts(drawn) and "std of the signal" in texts(drawn)
    assert committed.stat().st_size < 100_000
    holds, vanishes, explodes = (command["stds"](scale / 256) for scale in (2.0, 1.0, 4.0))
    assert 0.1 < holds[-1] < 2 and vanishes[-1] < 1e-6 and explodes[-1] > 1e6
