"""Names that no terminal should obey, or that standard output cannot show."""

import io
import math
import sys

import pytest
import torch
from torch import nn

import initfast

ODD = [
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "\r\x08\x07",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202e",
    "\ud800",
]


class Holder(nn.Module):
    """A module whose one child has any name."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self._modules[name] = nn.Linear(4, 4)

    def forward(self, x):
        return self._modules[self.name](x)


def is_plain(text):
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_no_control_character_reaches_the_terminal(name):
    net = Holder(name)
    net._modules[name].weight.data.fill_(torch.nan)
    report = initfast.profile(net, torch.randn(2, 4))
    for text in (str(report), report.tree()):
        assert name not in text and is_plain(text)
    lines = len(initfast.profile(Holder("plain"), torch.randn(2, 4)).tree().splitlines())
    assert len(report.tree().splitlines()) == lines
    assert report[name].name == name  # the report itself has it as it is


def test_a_class_of_an_odd_name():
    kind = type("Evil\x1b[2J", (Holder,), {})
    report = initfast.profile(nn.Sequential(kind("inner"), nn.Tanh()), torch.randn(2, 4))
    assert is_plain(str(report)) and is_plain(report.tree())


def test_standard_output_that_shows_ascii_alone(monkeypatch):
    report = initfast.profile(Holder("блок"), torch.full((2, 4), math.inf))
    assert "блок" in str(report)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    shown = report, report.tree(), report[0], report.explain(0), report.predicted
    shown += report.origin, report.findings[0]
    for each in shown:
        print(each)
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue().count(rb"\u0431\u043b\u043e\u043a") >= len(shown)


class WritesOnly:
    """What some tools put in the place of standard output."""

    def write(self, text):
        return len(text)


@pytest.mark.parametrize("make", [lambda: None, io.StringIO, WritesOnly])
def test_a_report_is_text_whatever_standard_output_is(make, monkeypatch):
    report, stream = initfast.profile(nn.Linear(4, 4), torch.ones(2, 4)), make()
    monkeypatch.delenv("COLUMNS", raising=False)
    expected = str(report)
    if isinstance(stream, io.StringIO):
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    assert str(report) == expected


def test_a_profiler_whose_net_was_never_called_says_so():
    net = nn.ModuleDict({"encoder": nn.Linear(8, 4)})
    with initfast.Profiler(net) as p:
        net["encoder"](torch.randn(5, 8))
    assert "never called" in str(p.report())
    with initfast.Profiler(net["encoder"]) as p:
        net["encoder"](torch.randn(5, 8))
    assert not p.report().notes and len(p.report()) == 1
