"""Report.tree(): the layers as the modules nest."""

import torch
from cases.reports import layer, nested
from torch import nn

from initfast.profiling.profile import profile
from initfast.report.report import Report


def test_the_tree_nests_as_the_modules_do():
    lines = nested().tree().splitlines()
    names = [line[: lines[0].index("op")].rstrip() for line in lines[2:]]
    assert names == ["stem", "body", "  0", "    conv", "  1", "    conv", "head"]
    assert Report([]).tree() == "no layers"
    twice = Report([layer("a.b"), layer("a.b"), layer("")]).tree().splitlines()[2:]
    assert [line.split()[0] for line in twice] == ["(net)", "a", "b", "b"]


def test_what_ran_as_one_is_one_line_of_the_tree():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.body(x))

    lines = profile(Net(), torch.randn(2, 4)).tree().splitlines()
    names = [line[: lines[0].index("op")].rstrip() for line in lines[2:]]
    assert names == ["(net)", "body", "  0 + 1", "  2 + act"]
    assert lines[2].split()[1:] == lines[5].split()[3:]


def test_the_tree_folds_blocks():
    layers = [layer(f"h.{i}.{op}", op) for i in range(12) for op in ("norm", "mlp")]
    text = Report(layers).tree()
    assert "... 30 more in blocks of 3 like these" in text and len(text.splitlines()) < 15
