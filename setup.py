"""What is built: one library for every Python and every torch from 2.10 on, or plain Python.

Environment variables:
    INITFAST_NATIVE=0|1   build no native kernels; fail where they cannot be built
    INITFAST_CUDA=0|1     build no CUDA kernels; fail where they cannot be built
    CXX, CXXFLAGS, LDFLAGS, MAX_JOBS, CUDA_HOME, TORCH_CUDA_ARCH_LIST   as usual
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "csrc"))

from build_backend import choose_compiler, has_torch, switch  # noqa: E402

LIBRARY = runpy.run_path(str(ROOT / "initfast" / "ops" / "library.py"))
# Contraction and reassociation would change bits between instruction sets; errno and traps would
# keep loops from vectorising.
CXX_FLAGS = [
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-g0",
]
NVCC_FLAGS = ["-O3", "--fmad=false", "-Xcompiler=-fvisibility=hidden"]
# Volta went with CUDA 13, 8.6 and 8.9 run the code for 8.0, Blackwell the PTX: a list that every
# toolkit from 11.8 on knows.
CUDA_ARCHITECTURES = "7.5;8.0;9.0+PTX"
# The stable ABI of torch 2.10.
MACROS = [("TORCH_TARGET_VERSION", "0x020a000000000000")]


def relative(pattern: str) -> list[str]:
    """Paths that match, sorted, relative to the root as setuptools wants them."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def point_to_toolkit() -> None:
    """Set CUDA_HOME as nvcc itself reports it.

    torch takes the directory above nvcc's, which is wrong where PATH holds a link or a wrapper.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None or os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        return
    command = [nvcc, "--dryrun", "-E", "-x", "cu", os.devnull]
    report = subprocess.run(command, capture_output=True, text=True).stderr
    top = re.search(r"^#\$ TOP=(.+)$", report, re.MULTILINE)
    if top is not None:
        os.environ["CUDA_HOME"] = str(Path(top[1].strip()).resolve())


def cuda_sources() -> list[str]:
    """The CUDA kernels to build: none where INITFAST_CUDA, torch or the toolkit says so.

    Whether a GPU is present says nothing: machines that build often have none.
    """
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    wanted = switch("INITFAST_CUDA")
    sources = relative("csrc/cuda/*.cu")
    lack = ""
    if not sources:
        lack = "csrc/cuda holds no kernels"
    elif torch.version.cuda is None:
        lack = f"torch {torch.__version__} is built without CUDA"
    elif CUDA_HOME is None or not Path(CUDA_HOME, "bin", "nvcc").exists():
        lack = f"there is no CUDA toolkit: no nvcc on PATH, nor in CUDA_HOME ({CUDA_HOME})"
    if wanted and lack:
        raise SystemExit(f"INITFAST_CUDA=1 asks for the CUDA kernels, but {lack}")
    if wanted is False or lack:
        return []
    if torch.cuda.device_count() == 0:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
    chosen = os.environ.get("TORCH_CUDA_ARCH_LIST", "the GPU that is here")
    say(
        f"initfast: compiling the CUDA kernels for {chosen}, which takes a minute or two. "
        "INITFAST_CUDA=0 leaves them out, TORCH_CUDA_ARCH_LIST chooses others."
    )
    return sources


def native_extension(cuda: list[str]) -> Extension:
    """The library. No Python.h: torch.ops.load_library loads it."""
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    kind = CUDAExtension if cuda else CppExtension
    return kind(
        "initfast._C",
        relative("csrc/binding/*.cpp") + relative("csrc/cpu/*.cpp") + cuda,
        include_dirs=[str(ROOT / "csrc")],
        define_macros=MACROS + ([("USE_CUDA", None)] if cuda else []),
        extra_compile_args={"cxx": CXX_FLAGS, "nvcc": NVCC_FLAGS},
        py_limited_api=True,
    )


def build_facts(compiler: list[str], reason: str, cuda: list[str]) -> dict[str, object]:
    """What ops/library.py and build_info() need to know about this build."""
    facts: dict[str, object] = dict.fromkeys(("torch", "cuda", "compiler"))
    if compiler:
        import torch

        version = subprocess.run([*compiler, "--version"], capture_output=True, text=True)
        facts["torch"] = torch.__version__
        facts["cuda"] = torch.version.cuda if cuda else None
        facts["compiler"] = (version.stdout.splitlines() or [shlex.join(compiler)])[0]
    sources = LIBRARY["sources_digest"](ROOT / "csrc")
    return {"native": bool(compiler), "reason": reason, "sources": sources, **facts}


def say(text: str) -> None:
    """Tell the user. pip hides what a build prints, but not the terminal."""
    print(text, file=sys.stderr, flush=True)
    try:
        with open("/dev/tty", "w") as terminal:
            print(text, file=terminal)
    except OSError:  # no terminal
        pass


def say_that_kernels_are_missing(reason: str) -> None:
    """`import initfast` warns as well."""
    say(
        f"\n*** initfast: installing WITHOUT its native kernels: {reason}.\n"
        "*** Everything works, on slow plain PyTorch. For the kernels, install GCC 12 or Clang\n"
        "*** and install initfast again.\n"
    )


class BuildPython(build_py):
    """Copies the Python files and records the facts of the build beside them."""

    def run(self) -> None:
        if COMPILER and not TORCH:
            raise SystemExit(
                "initfast compiles its kernels against torch >= 2.10, and none is installed here. "
                "Install torch first, or set INITFAST_NATIVE=0 for plain Python."
            )
        super().run()
        if not COMPILER:
            say_that_kernels_are_missing(REASON)
        package = ROOT if self.editable_mode else Path(self.build_lib)
        facts = build_facts(COMPILER, REASON, CUDA)
        (package / "initfast" / LIBRARY["FACTS_FILE"]).write_text(json.dumps(facts, indent=1))


def library_builder() -> type:
    """The command that builds the library, and records its size and digest with the facts."""
    from torch.utils.cpp_extension import BuildExtension

    class BuildLibrary(BuildExtension):  # type: ignore[misc]
        def run(self) -> None:
            super().run()
            package = Path("initfast")
            built = Path(self.build_lib) / package / LIBRARY["LIBRARY_FILE"]
            root = ROOT if self.editable_mode else Path(self.build_lib)
            path = root / package / LIBRARY["FACTS_FILE"]
            if path.exists():  # not where build_ext runs alone
                facts = json.loads(path.read_text("utf-8")) | LIBRARY["library_facts"](built)
                path.write_text(json.dumps(facts, indent=1))

    return BuildLibrary


class SourceDistribution(sdist):
    """Takes in everything that a build and its tests need, kernels' headers included."""

    def make_distribution(self) -> None:
        for directory in ("csrc", "tests", "benchmarks", ".github"):
            self.filelist.graft(directory)
        self.filelist.global_exclude("*.py[co]")
        super().make_distribution()


COMPILER, REASON = choose_compiler()
TORCH = has_torch() and importlib.util.find_spec("torch") is not None
CUDA: list[str] = []
commands: dict[str, type] = {"build_py": BuildPython, "sdist": SourceDistribution}
extensions: list[Extension] = []
options: dict[str, dict[str, str]] = {}

if COMPILER and TORCH:
    point_to_toolkit()
    # setuptools would link with the compiler that built Python, which this machine may lack.
    os.environ.setdefault("CXX", shlex.join(COMPILER))
    if sys.platform != "darwin":
        os.environ.setdefault("LDCXXSHARED", f"{os.environ['CXX']} -shared")
    CUDA = cuda_sources()
    commands["build_ext"] = library_builder()
    extensions = [native_extension(CUDA)]
    options["bdist_wheel"] = {"py_limited_api": "cp310"}

setup(cmdclass=commands, ext_modules=extensions, options=options)
