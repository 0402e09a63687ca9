"""Every barrier and fence of csrc/cuda is needed, and the harness sees each one's lack.

One build of a copy of the kernels can do without each of them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from cuda_on_cpu import builds, checks, harness, sampling

pytestmark = [pytest.mark.slow, pytest.mark.cuda_checks]

ORDERING = re.compile(r"__syncthreads\(\);|__threadfence\(\);|atomicExch\(ticket, 0u\);")
FILES = {path.name: path.read_text() for path in sorted((builds.CSRC / "cuda").glob("*.cu*"))}
MUTANTS = [
    f"{name}:{text[: found.start()].count(chr(10)) + 1}"
    for name, text in FILES.items()
    for found in ORDERING.finditer(text)
]


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> Iterator[harness.Device]:
    """The kernels, each ordering statement behind its number."""
    sources = tmp_path_factory.mktemp("mutants") / "csrc"
    shutil.copytree(builds.CSRC, sources)
    numbers = iter(range(len(MUTANTS)))
    for name, text in FILES.items():
        (sources / "cuda" / name).write_text(
            ORDERING.sub(
                lambda found: f"if (::cuda_on_cpu::taken_out != {next(numbers)}) {found[0]}", text
            )
        )
    device = harness.Device("thread", sources)
    yield device
    device.close()


def exercise(device: harness.Device, taken_out: int) -> None:
    device.take_out(taken_out)
    for seed in range(3):
        device.schedule(seed, 2)
        for n in (700, 2500, 9000):
            checks.check_moments(device, checks.numbers(n, seed), "float32")
        checks.check_unit_moments(device, (90, 33, 1), "float32")
        checks.check_unit_moments(device, (3, 2, 300), "float32")
        checks.check_act(device, "relu", "float32", (33, 61))
        for dtype in ("float32", "bfloat16"):
            checks.check_linear_act(device, 32, 4, 1100, dtype)
            checks.check_linear_act(device, 5, 3, 1100, dtype)
            checks.check_linear_act(device, 9, 7, 1100, dtype)
        sampling.check(device, "float32", "symmetric", (301,), offset=3)


def test_nothing_is_missed_where_nothing_is_taken_out(device):
    exercise(device, -1)


@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=MUTANTS)
def test_what_is_taken_out_is_missed(device, number):
    with pytest.raises((harness.KernelError, AssertionError)):
        exercise(device, number)
