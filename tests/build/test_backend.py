"""The build backend: which compiler it takes, and what it requires."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from cases.sources import ROOT, module_at


@pytest.fixture
def backend(tmp_path, monkeypatch):
    """The backend, in an environment that names no compiler and no choice."""
    for name in ("CXX", "INITFAST_NATIVE", "INITFAST_CUDA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setenv("PATH", str(tmp_path))
    return module_at(ROOT / "csrc" / "build_backend.py", "build_backend")


def executable(path, defines=""):
    """A program that tells what a compiler defines."""
    path.write_text(f"#!/bin/sh\nprintf '{defines}'\n")
    path.chmod(0o755)


def test_compiler_on_path_is_found(backend, tmp_path):
    executable(tmp_path / "clang++")
    assert backend.find_compiler() == (["clang++"], "")


def test_chosen_compiler_may_have_a_launcher(backend, tmp_path, monkeypatch):
    executable(tmp_path / "ccache")
    monkeypatch.setenv("CXX", "ccache g++-13")
    assert backend.find_compiler() == (["ccache", "g++-13"], "")


GCC_11 = "#define __GNUC__ 11\\n"
CLANG = "#define __GNUC__ 4\\n#define __clang__ 1\\n"


def test_a_compiler_that_is_too_old_is_passed_over(backend, tmp_path, monkeypatch):
    reason = "c++ is GCC 11; the native kernels need GCC 12 or later, or Clang"
    executable(tmp_path / "c++", GCC_11)
    executable(tmp_path / "g++", GCC_11)
    assert backend.choose_compiler() == ([], reason)
    executable(tmp_path / "clang++", CLANG)
    assert backend.choose_compiler() == (["clang++"], "")
    executable(tmp_path / "g++", GCC_11.replace("11", "12"))
    assert backend.choose_compiler() == (["g++"], "")
    monkeypatch.setenv("CXX", "c++")
    assert backend.choose_compiler() == ([], reason)
    monkeypatch.setenv("INITFAST_NATIVE", "1")
    with pytest.raises(
        SystemExit, match=r"INITFAST_NATIVE=1 .* is GCC 11; the native kernels need"
    ):
        backend.choose_compiler()


def test_the_version_of_a_real_compiler(backend, monkeypatch):
    monkeypatch.undo()
    for name, is_gcc in (("g++", sys.platform == "linux"), ("clang++-19", False)):
        if path := shutil.which(name):
            version = backend.gcc_version([path])
            assert (version is not None) == is_gcc and (version or 12) >= 5


def test_no_compiler_gives_the_reason_and_asks_for_no_torch(backend):
    assert backend.choose_compiler() == ([], "no C++ compiler (c++, g++ or clang++) was on PATH")
    assert backend.get_requires_for_build_wheel() == []


def test_uv_hides_torch_so_that_none_is_asked_for(backend, tmp_path, monkeypatch):
    executable(tmp_path / "clang++")
    monkeypatch.setattr(backend, "see_installed_packages", lambda: None)
    monkeypatch.setattr(backend, "has_torch", lambda: False)
    monkeypatch.delenv("UV", raising=False)
    assert backend.get_requires_for_build_wheel() == ["torch>=2.10"]
    monkeypatch.setenv("UV", "/usr/bin/uv")
    with pytest.raises(SystemExit, match="uv pip install --no-build-isolation"):
        backend.get_requires_for_build_wheel()
    monkeypatch.setenv("INITFAST_NATIVE", "0")
    assert backend.get_requires_for_build_wheel() == []


def test_native_forced_without_a_compiler_is_an_error(backend, monkeypatch):
    monkeypatch.setenv("INITFAST_NATIVE", "1")
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(SystemExit, match=r"INITFAST_NATIVE=1 .*CXX='/nowhere/c\+\+'"):
        backend.get_requires_for_build_wheel()


def test_native_forbidden_ignores_the_compiler(backend, tmp_path, monkeypatch):
    executable(tmp_path / "g++")
    monkeypatch.setenv("INITFAST_NATIVE", "0")
    assert backend.choose_compiler() == ([], "INITFAST_NATIVE=0 was set when it was built")


def test_switch_refuses_other_words(backend, monkeypatch):
    monkeypatch.setenv("INITFAST_CUDA", "yes")
    with pytest.raises(SystemExit, match="INITFAST_CUDA='yes': expected 0 or 1"):
        backend.switch("INITFAST_CUDA")


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        (None, ["torch>=2.10"]),
        ("2.9.1+cu128", ["torch>=2.10"]),
        ("2.10.0", []),
        ("2.14.1+cu130", []),
        ("3.0.0a0+git1", []),
    ],
)
def test_torch_is_asked_for_only_where_none_will_do(
    backend, tmp_path, monkeypatch, version, wanted
):
    executable(tmp_path / "c++")
    site = tmp_path / "site"
    site.mkdir()
    if version:
        metadata = site / f"torch-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(site)])
    monkeypatch.setattr(backend, "see_installed_packages", lambda: None)
    assert backend.get_requires_for_build_wheel() == wanted
    assert backend.get_requires_for_build_editable() == wanted
    assert backend.get_requires_for_build_sdist() == []


def test_isolation_is_seen_through(backend, monkeypatch):
    site = str(Path(torch.__file__).parents[1])
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != site])
    monkeypatch.setenv("PYTHONPATH", "/an/isolated/environment")
    backend.see_installed_packages()
    assert site in sys.path
    assert "/an/isolated/environment" not in sys.path


def test_intermediate_files_stay_out_of_the_source_tree(backend, monkeypatch):
    monkeypatch.setenv("DIST_EXTRA_CONFIG", "/the/users/own.cfg")
    with backend.outside_source_tree():
        config = Path(os.environ["DIST_EXTRA_CONFIG"])
        assert f"build_base = {config.parent}" in config.read_text()
    assert os.environ["DIST_EXTRA_CONFIG"] == "/the/users/own.cfg"
    assert not config.parent.exists()
