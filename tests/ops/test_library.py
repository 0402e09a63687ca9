"""Which kernels run: the native ones of an instruction set, or the reference."""

import os
import subprocess
import sys

import pytest
import torch

from initfast.ops import reference, schemas
from initfast.ops.schemas import LIBRARY

BACKEND = os.environ.get("INITFAST_BACKEND") or "native"
needs_native = pytest.mark.skipif(BACKEND == "reference", reason="INITFAST_BACKEND=reference")


def test_the_backend_that_was_asked_for_is_loaded():
    """No suite passes on the fallback unless INITFAST_BACKEND=reference says that it should."""
    assert LIBRARY.backend == BACKEND
    if BACKEND == "native":
        wanted = os.environ.get("INITFAST_ISA")
        assert LIBRARY.isa in ("baseline", "avx2", "avx512")
        assert LIBRARY.isa == wanted or not wanted
    else:
        assert LIBRARY.isa is None


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_native_kernels_take_precedence_over_the_reference(name):
    registered = torch._C._dispatch_has_kernel_for_dispatch_key(f"initfast::{name}", "CPU")
    by_numpy = name in ("sample_", *reference.MEASURING)  # where no kernels are
    assert registered == (BACKEND == "native" or by_numpy)


def python(code, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )


def machine_has(isa):
    """By the kernel's account, not the library's."""
    needed = {
        "baseline": [],
        "avx2": ["avx2", "fma", "f16c"],
        "avx512": ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"],
    }[isa]
    if not needed:
        return True
    with open("/proc/cpuinfo") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
    return set(needed) <= set(flags)


@needs_native
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_an_instruction_set_can_be_forced(isa):
    code = (
        "import torch; import initfast; print(initfast.build_info().isa);"
        "print(initfast.ops.act(torch.arange(-4.0, 5.0), 'relu')[0].sum().item())"
    )
    run = python(code, INITFAST_ISA=isa)
    if machine_has(isa):
        assert run.stdout.split() == [isa, "10.0"], run.stderr
    else:
        assert run.returncode != 0
        assert f"INITFAST_ISA={isa}: this machine lacks that instruction set" in run.stderr


@needs_native
def test_without_a_choice_the_widest_instruction_set_runs():
    run = python("import initfast; print(initfast.build_info().isa)", INITFAST_ISA="")
    widest = next(isa for isa in ("avx512", "avx2", "baseline") if machine_has(isa))
    assert run.stdout.strip() == widest, run.stderr


def test_the_reference_can_be_forced():
    code = (
        "import torch; import initfast; print(initfast.build_info().backend);"
        "print([path for path in torch.ops.loaded_libraries if 'initfast' in path]);"
        "print(initfast.ops.act(torch.ones(3), 'tanh')[1].shape)"
    )
    run = python(code, INITFAST_BACKEND="reference")
    assert run.stdout.split("\n")[:2] == ["reference", "[]"], run.stderr
