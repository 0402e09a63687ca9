"""What can be said of the CUDA kernels' machine code without a card: they compile for every card,
spill nothing, move 16 bytes at a time, use tensor cores, and sample by exact arithmetic only.

They need nvcc, and nvdisasm for the machine code.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
FLAGS = ["-std=c++20", "-O3", "--fmad=false", f"-I{ROOT / 'csrc'}"]
THREADS = 256
REGISTERS_OF_A_MULTIPROCESSOR = 65536
STATIC_SHARED_MEMORY = 48 << 10

pytestmark = [pytest.mark.slow, pytest.mark.cuda_checks]


def tool(name: str) -> str:
    """The path of a CUDA tool: on PATH, in CUDA_HOME, or in an installed package."""
    found = [shutil.which(name), f"{os.environ.get('CUDA_HOME', '/usr/local/cuda')}/bin/{name}"]
    package = importlib.util.find_spec("nvidia")
    for directory in (package.submodule_search_locations or ()) if package else ():
        found += map(str, Path(directory).glob(f"*/bin/{name}"))
    for path in found:
        if path and Path(path).is_file():
            return path
    raise RuntimeError(f"{name} is not installed")


class Kernel(NamedTuple):
    """What ptxas says of one kernel."""

    file: str
    architecture: int
    name: str
    registers: int
    shared: int
    spilled: int


@pytest.fixture(scope="module")
def cubins(tmp_path_factory):
    """The cubin of every file for every architecture, and every kernel in them."""
    nvcc, directory = tool("nvcc"), tmp_path_factory.mktemp("cubins")

    def compile_one(job: tuple[Path, int]) -> list[Kernel]:
        source, architecture = job
        output = directory / f"{source.stem}_{architecture}.cubin"
        result = subprocess.run(
            [
                *(nvcc, *FLAGS, "-Werror", "all-warnings", f"-arch=sm_{architecture}"),
                *("-Xptxas", "-v", "-cubin", str(source), "-o", str(output)),
            ],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        kernels = []
        for part in result.stderr.split("Compiling entry function ")[1:]:
            spills = [int(n) for n in re.findall(r"(\d+) bytes spill", part)]
            shared = re.search(r"(\d+) bytes smem", part)
            kernels.append(
                Kernel(
                    *(source.stem, architecture, part.split("'")[1]),
                    registers=int(re.search(r"Used (\d+) registers", part)[1]),
                    shared=int(shared[1]) if shared else 0,
                    spilled=sum(spills),
                )
            )
        return kernels

    jobs = [(source, a) for a in ARCHITECTURES for source in KERNELS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        kernels = [kernel for found in pool.map(compile_one, jobs) for kernel in found]
    return directory, kernels


def test_every_file_compiles_for_every_architecture(cubins):
    directory, kernels = cubins
    assert len(list(directory.glob("*.cubin"))) == len(KERNELS) * len(ARCHITECTURES)
    per_architecture = Counter(kernel.architecture for kernel in kernels)
    assert len(set(per_architecture.values())) == 1, per_architecture


def test_no_kernel_spills(cubins):
    assert {(k.name, k.architecture): k.spilled for k in cubins[1] if k.spilled} == {}


def test_two_blocks_fit_a_multiprocessor(cubins):
    """Registers for 512 threads, static shared memory for any card."""
    most = REGISTERS_OF_A_MULTIPROCESSOR // (2 * THREADS)
    assert {(k.name, k.architecture): k.registers for k in cubins[1] if k.registers > most} == {}
    assert [kernel for kernel in cubins[1] if kernel.shared > STATIC_SHARED_MEMORY] == []


# ---- the machine code ----


@pytest.fixture(scope="module")
def machine_code(cubins):
    """Of every kernel for sm_90: how often each instruction, with its modifiers, occurs."""
    nvdisasm, found = tool("nvdisasm"), {}
    for cubin in sorted(cubins[0].glob("*_90.cubin")):
        listing = subprocess.run([nvdisasm, str(cubin)], capture_output=True, text=True, check=True)
        for part in re.split(r"^\.text\.", listing.stdout, flags=re.MULTILINE)[1:]:
            name = part.split(":", 1)[0]
            code = re.findall(r"/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]+)", part)
            if "kernel" in name:
                found[name] = Counter(code)
    return found


def kernels_named(machine_code, words: str) -> list[Counter]:
    found = [c for name, c in machine_code.items() if all(w in name for w in words.split())]
    assert found, (words, list(machine_code))
    return found


def has(code: Counter, instruction: str) -> bool:
    return any(re.fullmatch(instruction, each) for each in code)


LOAD, STORE = r"LDG\.E\.128(\..*)?", r"STG\.E\.128(\..*)?"


@pytest.mark.parametrize(
    "name, instructions",
    [
        ("moments_kernel", [LOAD]),
        ("10act_kernel", [LOAD, STORE]),
        ("act_backward_kernel", [LOAD, STORE]),
        ("exact_kernel", [LOAD, r"LDS\.128", r"FFMA"]),
        ("tensor_core_kernel", [LOAD, r"LDS\.128", r"HMMA\.16816\.F32(\.BF16)?"]),
        ("sample_kernel", [STORE]),
    ],
)
def test_instructions_that_must_be_there(machine_code, name, instructions):
    for code in kernels_named(machine_code, name):
        for instruction in instructions:
            assert has(code, instruction), (name, instruction, sorted(code))


def test_bfloat16_has_its_own_tensor_core_instruction(machine_code):
    for code in kernels_named(machine_code, "tensor_core_kernel BFloat16"):
        assert has(code, r"HMMA\.16816\.F32\.BF16")


def test_float32_products_are_exact(machine_code):
    for code in kernels_named(machine_code, "exact_kernel"):
        assert not has(code, r"[HQ]?G?MMA.*")


def test_nothing_lives_in_local_memory(machine_code):
    for name, code in machine_code.items():
        assert not has(code, r"(LDL|STL).*"), name


# ---- the sampler's arithmetic ----


def test_sampler_computes_exactly(tmp_path):
    """In its PTX: nothing approximate or flushed, and no product or sum that ptxas may contract."""
    output = tmp_path / "sample.ptx"
    source = ROOT / "csrc" / "cuda" / "sample.cu"
    command = [tool("nvcc"), *FLAGS, "-arch=sm_80", "-ptx", str(source), "-o", str(output)]
    subprocess.run(command, check=True)
    code = Counter(
        re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][a-z0-9_.]+)\s", output.read_text(), re.M)
    )
    floating = {name for name in code if re.search(r"\.f(32|64)$", name)}
    assert {"fma.rn.f32", "fma.rn.f64"} <= floating, floating
    assert not [name for name in code if ".approx" in name or ".ftz" in name]
    inexact = [
        n for n in floating if re.match(r"(mul|add|sub|mad|div|sqrt)\.", n) and ".rn" not in n
    ]
    assert inexact == []


def test_the_build_contracts_nothing_either():
    assert '"--fmad=false"' in (ROOT / "setup.py").read_text()
