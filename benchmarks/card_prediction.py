"""What the kernels can at best take on a card, by their machine code: no card is needed.

    python benchmarks/card_prediction.py                # an H200, 2^26 numbers
    python benchmarks/card_prediction.py --count 65536

needs nvcc and nvdisasm, and two minutes. The hot path of each kernel is followed (hot_path.py). A
line gives the instructions that a warp issues for each number of its lanes, in all and by pipe, the
bytes a number at each level, and the time for the slowest of issuing, the pipes and the memory. The
last column is what the ends of a launch take at least: the latencies, one after the other, of the
instructions by which a block ends its grid, each loop on the way taken once. Waiting that no other
warp hides is in neither: benchmarks/README.md has what was measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hot_path import Block, hot_path, kernels, whole_path

CSRC = Path(__file__).parents[1] / "csrc"
FLAGS = ("-std=c++20", "-O3", "--fmad=false", f"-I{CSRC}")
LOAD, STORE = r"LDG\.E\.128", r"STG\.E\.128"
TANH = "0x3b163ebc"
"""The first number of tanh's polynomial, 2.2925577e-3, as ptxas loads it."""
END = {"MEMBAR": 2, "ATOMG": 2}


class Part(NamedTuple):
    """A loop: what its path passes, and how many of a lane's numbers go by."""

    marks: Mapping[str, int]
    numbers: int


class Kernel(NamedTuple):
    """A kernel as it is called.

    Attributes:
        name: what is printed.
        file, function: where it is; a part of its mangled name.
        parts: its loops; of the one inside, the outer one has the cheapest of its kind.
        bytes: of memory, read and written for each number.
        target: the most instructions that a number should take.
    """

    name: str
    file: str
    function: str
    parts: tuple[Part, ...]
    bytes: int
    target: float | None = None


def _staged(loads: int, stores: int) -> Part:
    """The loop of act or its backward in float32, with relu in the place of the activation."""
    return Part({LOAD: loads, "SHFL": 20, STORE: 4, r"STS\.128": stores}, 16)


KERNELS = (
    Kernel(
        "moments float32", "moments", "moments_kernelIf", (Part({LOAD: 4, "SHFL": 10}, 16),), 4, 34
    ),
    Kernel(
        "moments bfloat16", "moments", "moments_kernelIf", (Part({LOAD: 2, "SHFL": 10}, 16),), 2, 30
    ),
    Kernel("act relu float32", "act", "10act_kernelIf", (_staged(4, 8),), 8),
    Kernel(
        *("act tanh float32", "act", "10act_kernelIf"),
        *((_staged(4, 8), Part({TANH: 1, "MUFU.RCP": 4}, 4)), 8, 90),
    ),
    Kernel("act_backward relu float32", "act", "act_backward_kernelIf", (_staged(8, 12),), 12),
    Kernel(
        *("act_backward tanh float32", "act", "act_backward_kernelIf"),
        *((_staged(8, 12), Part({TANH: 1, "MUFU.RCP": 4}, 4)), 12),
    ),
    Kernel("uniform float32", "sample", "sample_kernelIf", (Part({STORE: 1, "LDS": 0}, 4),), 4, 32),
    Kernel("normal float32", "sample", "sample_kernelIf", (Part({STORE: 1, "LDS": 28}, 4),), 4, 50),
)

PIPES = {
    "fma": (128, r"FFMA|FADD|FMUL|IMAD"),
    "alu": (
        64,
        r"LOP3|I?MNMX|FMNMX|VIMNMX|FSEL|FSETP|ISETP|SEL|PRMT|SHF|LEA|IADD3|VIADD|I2FP?|IABS|VOTE",
    ),
    "special": (16, r"MUFU|F2I"),
    "load/store": (32, r"LD|ST|SHFL|ATOM|RED"),
    "float64": (64, r"D(ADD|MUL|FMA|SETP)"),
}
"""Lanes a clock on a multiprocessor of compute capability 9.0, and which opcodes (CUDA C++
Programming Guide, "Throughput of Native Arithmetic Instructions")."""
ISSUED = 128
LATENCY = {
    r"MEMBAR|ATOMG": 700,
    r"LDG": 500,
    r"LDS|SHFL": 25,
    r"D(ADD|MUL|FMA|SETP)|MUFU": 16,
    "": 4.5,
}
"""Clocks until a result can be used: assumed, of the order that is measured on such cards."""


class Card(NamedTuple):
    """Multiprocessors, clocks a second, and bytes a second that a sum reads."""

    multiprocessors: int
    clock: float
    bandwidth: float


H200 = Card(132, 1.98e9, 4.3e12)


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


def disassembled(cubin: Path) -> dict[str, list[Block]]:
    """The kernels in a cubin."""
    command = [tool("nvdisasm"), str(cubin)]
    return kernels(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def blocks_of(kernel: Kernel, code: Mapping[str, list[Block]]) -> list[Block]:
    """The blocks of a kernel among those of its file."""
    return next(blocks for name, blocks in code.items() if kernel.function in name)


def counts(kernel: Kernel, blocks: list[Block]) -> dict[str, float]:
    """How often a warp issues each opcode for each number of its lanes."""
    found: Counter[str] = Counter()
    for part in kernel.parts:
        for opcode, count in hot_path(blocks, part.marks).items():
            found[opcode] += count / part.numbers
    return dict(found)


def of_pipe(found: Mapping[str, float], opcodes: str) -> float:
    """How many of these instructions are of a pipe."""
    return sum(count for opcode, count in found.items() if re.match(opcodes, opcode))


def moved(found: Mapping[str, float], opcodes: str) -> float:
    """The bytes that loads and stores move for each number."""
    total = 0.0
    for opcode, count in found.items():
        if re.match(opcodes, opcode):
            width = re.search(r"\.(128|64|U?16|U?8)\b", opcode)
            total += count * (int(width[1].lstrip("U")) / 8 if width else 4)
    return total


def end_seconds(blocks: list[Block], card: Card) -> float:
    """The latencies on the shortest way through a kernel that ends a grid, one after the other."""
    clocks = sum(
        count * next(each for opcodes, each in LATENCY.items() if re.match(opcodes, opcode))
        for opcode, count in whole_path(blocks, END).items()
    )
    return clocks / card.clock


def line(kernel: Kernel, blocks: list[Block], count: int, card: Card) -> str:
    """What is printed of a kernel."""
    found = counts(kernel, blocks)
    rate = card.multiprocessors * card.clock / count
    seconds = {
        "issue": sum(found.values()) / ISSUED / rate,
        "memory": kernel.bytes * count / card.bandwidth,
    }
    pipes = {name: of_pipe(found, opcodes) for name, (_, opcodes) in PIPES.items()}
    seconds |= {name: each / PIPES[name][0] / rate for name, each in pipes.items()}
    slowest = max(seconds, key=lambda name: seconds[name])
    end = f"{1e6 * end_seconds(blocks, card):.1f}" if kernel.file != "sample" else ""
    return (
        f"{kernel.name:<26}{sum(found.values()):>8.1f}"
        + "".join(f"{each:>11.1f}" for each in pipes.values())
        + f"{kernel.bytes:>8}{moved(found, 'LDG|STG'):>8.1f}{moved(found, 'LDS|STS'):>8.1f}"
        + f"{1e6 * seconds[slowest]:>10.1f} {slowest:<11}{end:>6}"
    )


def main() -> None:
    """Compile, follow, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2**26, help="numbers")
    count = parser.parse_args().count
    print(
        f"{'':<26}{'issued':>8}"
        + "".join(f"{name:>11}" for name in PIPES)
        + f"{'memory':>8}{'L1':>8}{'shared':>8}{'least us':>10} {'by':<11}{'ends':>6}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for file in dict.fromkeys(kernel.file for kernel in KERNELS):
            cubin = Path(folder) / f"{file}.cubin"
            source = CSRC / "cuda" / f"{file}.cu"
            command = [tool("nvcc"), *FLAGS, "-arch=sm_90", "-cubin", str(source), "-o", str(cubin)]
            subprocess.run(command, check=True)
            code = disassembled(cubin)
            for kernel in KERNELS:
                if kernel.file == file:
                    print(line(kernel, blocks_of(kernel, code), count, H200), flush=True)


if __name__ == "__main__":
    main()
