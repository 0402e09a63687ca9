"""A folder to run commands in."""

import sys

import pytest
from cases.commands import NETS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a file of nets that can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    (tmp_path / "toys.py").write_text(NETS)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    yield tmp_path
    for name in set(sys.modules) & {"toys", "torch_nets", "initfast_target_torch"} - known:
        del sys.modules[name]
