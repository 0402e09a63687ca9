"""The PEP 517 backend: setuptools, building against the torch that is already installed.

Build isolation hides the torch of the environment that initfast is installed into, so that a build
would fetch another one, of gigabytes and with another ABI. This backend looks past the isolation,
and asks for a torch only where the environment has none that will do. setup.py says what is built.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import build_sdist as build_sdist

MINIMUM_TORCH = (2, 10)
MINIMUM_GCC = 12  # the first with __builtin_shufflevector
UV_HIDES_TORCH = """\
initfast compiles its kernels against the torch that is installed, and uv hides that from a build.
Install torch and the tools first, then initfast beside them:
    uv pip install torch setuptools ninja
    uv pip install --no-build-isolation .
INITFAST_NATIVE=0 installs it as slow plain Python, whose build needs no torch."""
Settings = dict[str, Any] | None


def switch(name: str) -> bool | None:
    """An environment variable that forces a choice: 1 is True, 0 False, and unset None."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SystemExit(f"{name}={value!r}: expected 0 or 1")
    return None if value == "" else value == "1"


def find_compiler() -> tuple[list[str], str]:
    """The command of the C++ compiler, and "". Where there is none, [] and the reason."""
    if os.name == "nt":
        return [], "the native kernels need GCC or Clang"
    chosen, old = os.environ.get("CXX", ""), ""
    for command in [chosen] if chosen else ["c++", "g++", "clang++"]:
        words = shlex.split(command)
        if not words or not shutil.which(words[0]):
            continue
        version = gcc_version(words)
        if version is None or version >= MINIMUM_GCC:
            return words, ""
        needed = f"the native kernels need GCC {MINIMUM_GCC} or later, or Clang"
        old = old or f"{command} is GCC {version}; {needed}"
    if old:
        return [], old
    if chosen:
        return [], f"CXX={chosen!r} is no executable, so there was no C++ compiler"
    return [], "no C++ compiler (c++, g++ or clang++) was on PATH"


def gcc_version(compiler: list[str]) -> int | None:
    """Its major version; None where it is not GCC, or does not say."""
    command = [*compiler, "-dM", "-E", "-x", "c++", os.devnull]
    try:
        macros = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:  # no program: the build itself will say so
        return None
    version = re.search(r"^#define __GNUC__ (\d+)$", macros, re.MULTILINE)
    return int(version[1]) if version and "#define __clang__ " not in macros else None


def choose_compiler() -> tuple[list[str], str]:
    """As find_compiler, with INITFAST_NATIVE=0 (build none) and 1 (fail without one) obeyed."""
    wanted = switch("INITFAST_NATIVE")
    if wanted is False:
        return [], "INITFAST_NATIVE=0 was set when it was built"
    compiler, reason = find_compiler()
    if wanted and not compiler:
        raise SystemExit(f"INITFAST_NATIVE=1 asks for the native kernels, but {reason}")
    return compiler, reason


def see_installed_packages() -> None:
    """Append what this interpreter sees without build isolation to sys.path.

    Isolation works through PYTHONPATH, which -E ignores. What the build asked for comes first.
    """
    report = "import json, sys; print(json.dumps(sys.path[1:]))"
    answer = subprocess.run(
        [sys.executable, "-E", "-c", report], check=True, capture_output=True, text=True
    )
    sys.path += [path for path in json.loads(answer.stdout) if path not in sys.path]


def has_torch() -> bool:
    """Whether the torch on sys.path is new enough to build against."""
    torch = next(iter(distributions(name="torch")), None)
    return torch is not None and version_pair(torch.version) >= MINIMUM_TORCH


def version_pair(version: str) -> tuple[int, int]:
    """(2, 10) of "2.10.0+cpu"."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Ask for torch where kernels will be compiled and the environment has no torch.

    Raises:
        SystemExit: uv builds, in an environment of its own that says nothing of where initfast is
            installed: a torch that is asked for would be another one.
    """
    see_installed_packages()
    compiler, _ = choose_compiler()
    if not compiler or has_torch():
        return []
    if "UV" in os.environ:  # uv sets it for whatever it runs
        raise SystemExit(UV_HIDES_TORCH)
    return [f"torch>={'.'.join(map(str, MINIMUM_TORCH))}"]


get_requires_for_build_editable = get_requires_for_build_wheel


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """An sdist compiles nothing."""
    return []


def prepare_metadata_for_build_wheel(directory: str, config_settings: Settings = None) -> str:
    """As setuptools does."""
    see_installed_packages()
    return build_meta.prepare_metadata_for_build_wheel(directory, config_settings)


def prepare_metadata_for_build_editable(directory: str, config_settings: Settings = None) -> str:
    """As setuptools does."""
    see_installed_packages()
    return build_meta.prepare_metadata_for_build_editable(directory, config_settings)


def build_wheel(
    directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """As setuptools does, but no file is left in the source tree, nor a stale one taken from it."""
    see_installed_packages()
    with outside_source_tree():
        return build_meta.build_wheel(directory, config_settings, metadata_directory)


def build_editable(
    directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """As setuptools does. The library and the facts of the build go into the source tree."""
    see_installed_packages()
    return build_meta.build_editable(directory, config_settings, metadata_directory)


@contextmanager
def outside_source_tree() -> Iterator[None]:
    """Let setuptools keep its intermediate files in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="initfast-build-") as scratch:
        config = Path(scratch) / "setup.cfg"
        config.write_text(
            f"[build]\nbuild_base = {scratch}\n[egg_info]\negg_base = {scratch}\n", "utf-8"
        )
        before = os.environ.get("DIST_EXTRA_CONFIG")
        os.environ["DIST_EXTRA_CONFIG"] = str(config)
        try:
            yield
        finally:
            if before is None:
                del os.environ["DIST_EXTRA_CONFIG"]
            else:
                os.environ["DIST_EXTRA_CONFIG"] = before
