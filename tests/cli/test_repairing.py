"""`initfast audit`, `initfast repair` and `--scheme`."""

import json

import pytest
import torch

from initfast.cli.main import main

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.layers = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(64, 64), nn.ReLU())])
        for linear in self.layers[::2]:
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
    def forward(self, x):
        return self.layers(x)

def loud(): return Net(1.0)
def sound(): return Net((2 / 64) ** 0.5)
def holed():
    net = sound()
    net.layers[4].weight.data[0, 0] = float("nan")
    return net
def fails(): raise ValueError("no luck")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toys.py").write_text(NETS)
    return tmp_path


def test_audit(capsys):
    assert main(["audit", "toys.py:sound"]) == 0
    assert "64x64" in capsys.readouterr().out
    assert main(["audit", "toys.py:holed", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["severity"] == "error"
    assert main(["audit", "toys.py:holed", "--fail-on", "never"]) == 0
    assert main(["audit", "toys.py:fails"]) == 2
    assert capsys.readouterr().err == "initfast: toys.py:fails raised ValueError: no luck\n"


def test_repair_saves_weights_that_are_healthy(folder, capsys):
    load_file = pytest.importorskip("safetensors.torch").load_file
    run = ["--input", "16,64"]
    assert main(["profile", "toys.py:loud", *run]) == 1
    assert main(["repair", "toys.py:loud", *run, "--save", "weights.safetensors"]) == 0
    assert "after: 0 errors" in capsys.readouterr().out
    weights = load_file("weights.safetensors")
    assert weights["layers.0.weight"].std() == pytest.approx((2 / 64) ** 0.5, rel=0.1)
    assert not [path for path in folder.iterdir() if path.name.startswith(".weights")]
    assert main(["repair", "toys.py:loud", "--input", "16,65"]) == 2
    assert "takes float inputs whose last dimension is 64" in capsys.readouterr().err


def test_weights_that_cannot_be_saved_leave_what_was_there(folder, capsys):
    pytest.importorskip("safetensors")
    given = ["repair", "toys.py:loud", "--input", "16,64", "--save"]
    assert main([*given, "."]) == 2
    assert capsys.readouterr().err == "initfast: --save . is a folder; expected a file\n"
    assert main([*given, "/proc/w.safetensors"]) == 2
    assert capsys.readouterr().err.startswith("initfast: --save /proc/w.safetensors: ")


def test_scheme(capsys):
    run = ["--input", "16,64", "--format", "json"]
    assert main(["profile", "toys.py:loud", *run, "--scheme", "auto"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert layers[0]["weight"]["moments"]["std"] == pytest.approx((2 / 64) ** 0.5, rel=0.1)
    assert main(["profile", "toys.py:loud", *run, "--scheme", "nosuch"]) == 2
    assert "--scheme nosuch raised ArgumentError: " in capsys.readouterr().err
    assert torch.get_default_dtype() is torch.float32
