"""A report says so where plain PyTorch measured for want of kernels."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import initfast
from initfast.ops.library import LibraryInfo
from initfast.profiling import forward
from initfast.profiling.missing_kernels import missing_kernels

NATIVE = LibraryInfo("native", "", "avx2", None, "2.13.0", "2.13.0")
NONE = LibraryInfo("reference", "no C++ compiler was there", None, None, None, "2.13.0")


@pytest.mark.parametrize(
    "info, device, words",
    [
        (NATIVE, "cpu", ""),
        (NATIVE, "", ""),
        (NATIVE, "cuda:0", "for cuda devices"),
        (NATIVE, "mps:0", "for mps devices"),
        (replace(NATIVE, cuda="13.0"), "cuda:0", ""),
        (NONE, "cpu", "(no C++ compiler was there)"),
    ],
)
def test_the_note(info, device, words, monkeypatch):
    monkeypatch.delenv("INITFAST_BACKEND", raising=False)
    notes = missing_kernels(info, device)
    assert bool(notes) == bool(words) and words in "".join(notes)
    monkeypatch.setenv("INITFAST_BACKEND", "reference")
    assert missing_kernels(NONE, "cpu") == []


def test_it_is_in_the_report(monkeypatch):
    monkeypatch.delenv("INITFAST_BACKEND", raising=False)
    monkeypatch.setattr(forward, "load", lambda: NONE)
    report = initfast.profile(nn.Linear(4, 4), torch.randn(2, 4))
    assert "no C++ compiler was there" in str(report)
