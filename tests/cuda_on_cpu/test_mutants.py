"""Every barrier and fence of csrc/cuda is needed, and the harness sees each one's lack.

Each test builds the kernels with one of them taken out.
"""

from __future__ import annotations

import re
import shutil

import pytest
from cuda_on_cpu import builds, checks, harness

pytestmark = [pytest.mark.slow, pytest.mark.cuda_checks]

ORDERING = re.compile(r"__syncthreads\(\);|__threadfence\(\);|atomicExch\(ticket, 0u\);")
MUTANTS = [
    (path.name, number)
    for path in sorted((builds.CSRC / "cuda").glob("*.cu*"))
    for number in range(len(ORDERING.findall(path.read_text())))
]


def exercise(device: harness.Device) -> None:
    for seed in range(3):
        device.schedule(seed, 2)
        for n in (700, 2500, 9000):
            checks.check_moments(device, checks.numbers(n, seed), "float32")
        checks.check_act(device, "relu", "float32", (33, 61))
        for dtype in ("float32", "bfloat16"):
            checks.check_linear_act(device, 32, 4, 1100, dtype)
            checks.check_linear_act(device, 5, 3, 1100, dtype)
        device.call("sample", 0, bytes(4 * 700), "uniform", b"", (1, 0, 0, 1), 1, 0, [(700, 1, 1)])


@pytest.mark.parametrize("name, number", MUTANTS)
def test_what_is_taken_out_is_missed(tmp_path, name, number):
    sources = tmp_path / "csrc"
    shutil.copytree(builds.CSRC, sources)
    path = sources / "cuda" / name
    text = path.read_text()
    found = list(ORDERING.finditer(text))[number]
    path.write_text(text[: found.start()] + "(void)0;" + text[found.end() :])
    device = harness.Device("thread", sources, tmp_path)
    try:
        with pytest.raises((harness.KernelError, AssertionError)):
            exercise(device)
    finally:
        device.close()
