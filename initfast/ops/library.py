"""Finding and loading the native library.

The build leaves its facts beside the package. They tell a library that was never built (the plain
PyTorch reference runs, and says so) from one that was built and is lost or broken (an error).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, cast

FACTS_FILE = "_build.json"
LIBRARY_FILE = "_C.abi3.so"
BACKENDS = ("native", "reference")
_AGAIN = (
    "Install initfast again (in the source tree `pip install --force-reinstall --no-deps .`); "
    "INITFAST_BACKEND=reference does without the kernels, slowly"
)


@dataclass(frozen=True)
class LibraryInfo:
    """What runs the operators.

    Attributes:
        backend: "native" (the compiled kernels) or "reference" (plain PyTorch).
        reason: why it is this backend, in words.
        isa: the instruction set chosen for the CPU kernels, or None for the reference.
        cuda: the CUDA version that the kernels were built with, or None without CUDA kernels.
        torch_built: the torch that the library was built against, or None for the reference.
        torch_running: the torch that is loaded.
    """

    backend: Literal["native", "reference"]
    reason: str
    isa: str | None
    cuda: str | None
    torch_built: str | None
    torch_running: str


@functools.cache
def load() -> LibraryInfo:
    """Load the native library, or settle for the reference, once in a process.

    INITFAST_BACKEND=native forbids the reference, INITFAST_BACKEND=reference chooses it.
    INITFAST_ISA=baseline, avx2 or avx512 forces the instruction set of the CPU kernels.

    Returns:
        What was chosen.

    Raises:
        ImportError: the library was built but cannot be loaded, it or the facts of its build are
            damaged or of another build, INITFAST_BACKEND asks for one that was not built or has an
            unknown value, or INITFAST_ISA is refused.

    Warns:
        RuntimeWarning: the library was never built and nothing chose the reference.
    """
    wanted = os.environ.get("INITFAST_BACKEND", "")
    if wanted and wanted not in BACKENDS:
        raise ImportError(f"INITFAST_BACKEND={wanted!r}: expected one of {', '.join(BACKENDS)}")
    if wanted == "reference":
        return _reference("INITFAST_BACKEND=reference is set")
    package, facts = _find_build()
    if facts["native"]:
        return _native(package / LIBRARY_FILE, facts)
    missing = (
        f"initfast: the native kernels are missing: {facts['reason']}. To get them, have a C++ "
        "compiler (g++ or clang++) installed and run `pip install .` in the source tree again"
    )
    if wanted == "native":
        raise ImportError(f"{missing}. INITFAST_BACKEND=native forbids the reference.")
    warnings.warn(
        f"{missing}. Until then slow plain PyTorch does their work; INITFAST_BACKEND=reference "
        "chooses it without this warning.",
        RuntimeWarning,
        stacklevel=2,
    )
    return _reference(facts["reason"])


Measure = Callable[[int, int, int, int | None, int, int, int | None], None]


def measure_function() -> Measure | None:
    """The function of csrc/binding/measure.cpp; None where the reference runs.

    It takes where numbers lie one after the other, how many, their dtype's place in
    :data:`initfast.ops.checks.DTYPES`, and where to write their row of moments, or None; then how
    many units they have, or 0, how many numbers of a unit lie together, and where to write the
    units' moments.
    """
    if load().backend == "reference":
        return None
    package, _ = _find_build()
    measure = ctypes.CDLL(str(package / LIBRARY_FILE)).initfast_measure
    place, number = ctypes.c_void_p, ctypes.c_int64
    measure.argtypes = (place, number, ctypes.c_int, place, number, number, place)
    measure.restype = None
    found: Measure = measure
    return found


def sources_digest(csrc: Path) -> str:
    """A digest of the names and contents of the library's sources."""
    digest = hashlib.sha256()
    for path in sorted(csrc.rglob("*")):
        if path.suffix in (".h", ".inl", ".cpp", ".cu", ".cuh"):
            digest.update(f"{path.relative_to(csrc).as_posix()}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def library_facts(library: Path) -> dict[str, Any]:
    """The size and a digest of the native library: what its build says of it."""
    contents = library.read_bytes()
    return {"size": len(contents), "digest": hashlib.sha256(contents).hexdigest()}


def _reference(reason: str) -> LibraryInfo:
    import torch

    return LibraryInfo("reference", reason, None, None, None, torch.__version__)


def _native(library: Path, facts: dict[str, Any]) -> LibraryInfo:
    import torch

    running = torch.__version__
    _check_library(library, facts)
    try:
        torch.ops.load_library(library)
        exported = ctypes.CDLL(str(library))
        exported.initfast_isa.restype = ctypes.c_char_p
        exported.initfast_isa_error.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:
        cuda = f" and CUDA {facts['cuda']}" if facts["cuda"] else ""
        raise ImportError(
            f"initfast cannot load {library}, built against torch {facts['torch']}{cuda}, into "
            f"torch {running}: {error}. {_AGAIN}"
        ) from error
    refused = exported.initfast_isa_error()
    if refused:
        raise ImportError(f"initfast: {refused.decode()}")
    isa = exported.initfast_isa().decode()
    reason = f"loaded {library}"
    return LibraryInfo("native", reason, isa, facts["cuda"], facts["torch"], running)


def _find_build() -> tuple[Path, dict[str, Any]]:
    """The package directory that holds the library, and the facts of its build.

    In a clone, `python -m initfast` imports the clone and not the package that was installed from
    it. The installed library then serves, provided that it was built from the clone's very sources.
    """
    package = Path(__file__).resolve().parents[1]
    facts = _read_facts(package)
    if facts is not None:
        return package, facts
    reason = f"{package.parent} is a source tree where nothing was built"
    csrc = package.parent / "csrc"
    installed = _installed_build() if csrc.is_dir() else None
    if installed is not None:
        if installed[1]["sources"] == sources_digest(csrc):
            return installed
        reason += f", and {installed[0]} was built from other sources than {csrc}"
    return package, {"native": False, "reason": reason}


def _installed_build() -> tuple[Path, dict[str, Any]] | None:
    from importlib.metadata import distributions

    for distribution in distributions(name="initfast"):
        package = Path(str(distribution.locate_file("initfast")))
        facts = _read_facts(package)
        if facts is not None:
            return package, facts
    return None


def _read_facts(package: Path) -> dict[str, Any] | None:
    """The facts of the build in a package; None where it was never built.

    Raises:
        ImportError: they cannot be read, are not what a build writes, or are lost beside a library.
    """
    path = package / FACTS_FILE
    try:
        facts = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if (package / LIBRARY_FILE).exists():
            raise ImportError(f"{path} is gone, but {LIBRARY_FILE} is there. {_AGAIN}") from None
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ImportError(f"{path} is damaged: {error}. {_AGAIN}") from error
    wrong = _wrong_fact(facts)
    if wrong:
        raise ImportError(f"{path} is damaged, or of another version: {wrong}. {_AGAIN}")
    return cast(dict[str, Any], facts)


def _wrong_fact(facts: Any) -> str:
    """What is wrong with the facts of a build, or nothing."""
    if not isinstance(facts, dict):
        return f"it holds {type(facts).__name__}, expected an object"
    kinds: dict[str, Any] = {"native": bool, "reason": str, "sources": str, "cuda": (str, NoneType)}
    if facts.get("native") is True:
        kinds |= {"torch": str, "size": int, "digest": str}
    for name, kind in kinds.items():
        if name not in facts:
            return f"{name!r} is missing"
        if not isinstance(facts[name], kind):
            return f"{name!r} is {facts[name]!r}"
    return ""


def _check_library(library: Path, facts: dict[str, Any]) -> None:
    """Raise ImportError unless the library is the very one that was built.

    A shared object that was cut short would kill the process while it is loaded.
    """
    try:
        found = library_facts(library)
    except FileNotFoundError:
        raise ImportError(
            f"initfast was built with native kernels, but {library} is gone. {_AGAIN}"
        ) from None
    except OSError as error:
        raise ImportError(f"initfast cannot read {library}: {error}. {_AGAIN}") from error
    if found["size"] != facts["size"]:
        what = f"has {found['size']} bytes, expected {facts['size']}"
    elif found["digest"] != facts["digest"]:
        what = f"has digest {found['digest'][:12]}, expected {facts['digest'][:12]}"
    else:
        return
    raise ImportError(f"{library} is damaged, or of another build: it {what}. {_AGAIN}")
