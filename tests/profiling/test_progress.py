"""profile(progress=): how far it is, told to a function or shown on a terminal."""

import io
import sys

import pytest
import torch
from torch import nn

import initfast
from initfast.profiling import progress as module
from initfast.profiling.progress import TerminalProgress, shown_progress

X = torch.ones(4, 8)


def net(depth=3):
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(8, 8), nn.ReLU())])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told(model, x, **options):
    seen = []
    report = initfast.profile(model, x, progress=lambda *what: seen.append(what), **options)
    return seen, report


def test_a_function_is_told_of_every_call_and_stage():
    model = net()
    seen, report = told(model, X, backward="random")
    assert [s for s in seen if s[0] == "forward"] == [("forward", i, 7) for i in range(1, 8)]
    assert seen[-1] == ("backward", 0, 0)
    assert report.layers == initfast.profile(model, X, backward="random").layers
    model[0].weight.data.fill_(float("nan"))
    seen, _ = told(lambda x: model(x).log(), X)
    assert seen[0][0] == "forward"


def test_a_module_that_runs_again_is_counted_again():
    part = nn.Linear(8, 8)
    seen, _ = told(nn.Sequential(part, part, part), X)
    assert [done for _, done, _ in seen] == [1, 2, 3, 4]
    assert all(done <= total for _, done, total in seen)


def test_what_it_raises_ends_the_profile_and_leaves_the_net():
    model, before = net(), None

    def stop(stage, done, total):
        raise RuntimeError("enough")

    before = [dict(vars(m)) for m in model.modules()]
    with pytest.raises(RuntimeError, match="enough"):
        initfast.profile(model, X, progress=stop)
    assert [dict(vars(m)) for m in model.modules()] == before
    with pytest.raises(TypeError, match="progress is a str; expected a function"):
        initfast.profile(model, X, progress="bar")


def test_it_is_shown_on_terminals_alone(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert shown_progress() is None
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    initfast.profile(net(), X)
    assert terminal.getvalue() == ""  # it did not take long
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "_INTERVAL", 0.0)
    initfast.profile(net(), X, progress=False)
    assert terminal.getvalue() == ""
    initfast.profile(net(), X, backward="random")
    text = terminal.getvalue()
    assert "initfast: forward" in text and "initfast: backward" in text


@pytest.mark.parametrize("is_installed", [False, True])
def test_a_line_or_a_bar(monkeypatch, is_installed):
    if is_installed:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "_INTERVAL", 0.0)
    terminal = Terminal()
    shown = TerminalProgress(terminal)
    shown("forward", 3, 12)
    assert "initfast: forward" in terminal.getvalue()
    assert ("3/12" if is_installed else "3 of 12 modules") in terminal.getvalue()
    shown.close()
    shown.close()
    assert terminal.getvalue().endswith("\r" if is_installed else "\r\x1b[K")
