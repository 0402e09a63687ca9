"""Builds csrc/cuda for the host.

Builds: "plain"; "address" (AddressSanitizer and UBSan); "thread" (ThreadSanitizer as race checker,
with smaller blocks, because it can tell 256 threads apart): modules for harness.py to call. "card":
the operators of csrc/binding/ops_cuda*.cpp over the kernels, for torch to load.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
BUILDS = ("plain", "address", "thread")
RUNTIME = ("fibers.cpp", "order.cpp", "runtime.cpp")

FLAGS = (
    "-std=c++20 -g1 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Werror -Wno-unknown-pragmas "
    "-Wno-maybe-uninitialized -Wno-unknown-warning-option -Wno-class-memaccess "
    "-DINITFAST_CUDA_ON_CPU -DINITFAST_HAS_FMA=1"
).split()
UNDEFINED = "alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero,null"
SANITIZERS = {
    "plain": ["-O1"],
    "card": ["-O1"],
    "address": [f"-fsanitize=address,{UNDEFINED}", "-fno-sanitize-recover=all", "-shared-libsan"],
    "thread": [
        *("-fsanitize=thread", "-shared-libsan"),
        *("-DINITFAST_CUDA_THREADS=64", "-DINITFAST_CUDA_MAX_BLOCKS=3"),
        "-DINITFAST_CUDA_MANY_COLS=5",  # so that both shapes of linear_act's tile fit
    ],
}
RUNTIMES = {"address": "asan", "thread": "tsan"}


class MissingTool(Exception):
    """A compiler that a build needs is not installed."""


def or_skip(build: Callable[[], T]) -> T:
    """What is built; without a compiler the test is skipped, or fails: INITFAST_CUDA_CHECKS=1."""
    try:
        return build()
    except MissingTool as missing:
        if os.environ.get("INITFAST_CUDA_CHECKS") == "1":
            raise
        raise pytest.skip.Exception(str(missing)) from missing


def compiler(build: str) -> str:
    """The C++ compiler of a build: Clang for the sanitizers, whose runtimes know fibers."""
    names = ["clang++-19", "clang++"] if build in RUNTIMES else ["c++", "g++", "clang++"]
    for name in names:
        if shutil.which(name):
            return name
    raise MissingTool(f"the {build} build needs one of {', '.join(names)}")


def build(name: str, sources: Path = CSRC) -> Path:
    """The library of a build, compiled unless these very sources were before.

    Args:
        name: one of BUILDS, for Python to import; or "card", the operators of ops_cuda*.cpp over
            the kernels, for torch to load.
        sources: csrc or a changed copy of it.
    """
    suffix = ".so"
    if name == "card":
        import torch

        identity = torch.__version__
    else:
        identity, suffix = sys.version, sysconfig.get_config_var("EXT_SUFFIX")
    digest = hashlib.sha256(repr((FLAGS, SANITIZERS[name], identity)).encode())
    for path in sorted([*sources.glob("*/*.[hc]*"), *HERE.glob("*.[hc]*")]):
        digest.update(path.name.encode() + path.read_bytes())
    cache = Path(tempfile.gettempdir()) / f"initfast-cuda-on-cpu-{os.getuid()}"
    library = cache / f"{name}-{digest.hexdigest()[:16]}" / f"kernels_{name}{suffix}"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _compile(name, sources, Path(scratch) / library.name, cache / "objects")
            os.replace(Path(scratch) / library.name, library)
    return library


def _compile(name: str, sources: Path, library: Path, kept: Path) -> None:
    main = _card_commands if name == "card" else _module_commands
    front = [compiler(name), *FLAGS, *SANITIZERS[name]]
    commands, link = main(name, front, sources)
    for source in sorted((sources / "cuda").glob("*.cu")):
        commands.append([*front, "-mfma", "-xc++", str(source)])
    for source in RUNTIME:  # itself not instrumented
        commands.append([compiler("plain"), *FLAGS, "-O2", str(HERE / source)])
    kept.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(partial(_object, sources=sources, kept=kept), commands))
    _run([*front, "-shared", *map(str, objects), *link, "-o", str(library)])


def _object(command: Sequence[str], sources: Path, kept: Path) -> Path:
    """What a command compiles, compiled unless these very sources were before."""
    *options, source = command
    digest = hashlib.sha256(repr(options).encode())
    for path in sorted(_included(Path(source), (HERE, sources)), key=lambda path: path.name):
        digest.update(path.name.encode() + path.read_bytes())
    result = kept / f"{Path(source).stem}-{digest.hexdigest()[:16]}.o"
    if not result.exists():
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            made = Path(scratch) / result.name
            include = [f"-I{HERE}", f"-I{sources}"]
            _run([*options, *include, "-c", source, "-o", str(made)])
            os.replace(made, result)
    return result


def _included(source: Path, roots: Sequence[Path]) -> set[Path]:
    """The source, and what of our own it includes, and they include."""
    found, new = set(), [source.resolve()]
    while new:
        path = new.pop()
        if path in found:
            continue
        found.add(path)
        for name in re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE):
            places = [root / name for root in (path.parent, *roots)]
            new += [place.resolve() for place in places if place.is_file()][:1]
    return found


def _module_commands(
    name: str, front: list[str], sources: Path
) -> tuple[list[list[str]], list[str]]:
    """What compiles the module that Device calls, and what it is linked with."""
    import pybind11

    python = [f"-isystem{pybind11.get_include()}", f"-isystem{sysconfig.get_path('include')}"]
    module = f"-DINITFAST_MODULE=kernels_{name}"
    bindings = [*front, *python, module, str(HERE / "bindings.cpp")]
    return [bindings, [*front, str(HERE / "bugs.cpp")]], []


def _card_commands(name: str, front: list[str], sources: Path) -> tuple[list[list[str]], list[str]]:
    """What compiles the operators for torch, and what they are linked with."""
    from torch.utils import cpp_extension

    torch_flags = [f"-isystem{path}" for path in cpp_extension.include_paths()]
    torch_flags += ["-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    operators = [*front, *torch_flags, "-include", str(HERE / "card.h")]
    link = [f"-L{path}" for path in cpp_extension.library_paths()]
    # -Bsymbolic: what card.cpp defines comes before torch's own.
    link += ["-ltorch", "-ltorch_cpu", "-lc10", "-Wl,-Bsymbolic"]
    commands = [
        *([*operators, str(source)] for source in sorted(sources.glob("binding/ops_cuda*.cpp"))),
        [*front, *torch_flags, str(HERE / "card.cpp")],
    ]
    return commands, link


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{result.stderr}")
