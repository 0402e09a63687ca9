"""The kernels under AddressSanitizer, UBSan and ThreadSanitizer, and bugs that those must see."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_on_cpu import checks, harness, sampling
from cuda_on_cpu.builds import BUILDS
from cuda_on_cpu.harness import DTYPES, KernelError

pytestmark = [pytest.mark.slow, pytest.mark.cuda_checks]


@pytest.fixture(scope="module")
def devices():
    """The devices by build, each started when it is first asked for."""
    started: dict[str, harness.Device] = {}

    def device(build: str) -> harness.Device:
        if build not in started:
            started[build] = harness.Device(build)
            started[build].schedule(1, 2)
        return started[build]

    yield device
    for device_started in started.values():
        device_started.close()


# What shows each injected bug, by build: "result" where it is only a wrong sum, "nan" where that is
# NaN. A build that cannot
# see it is left out.
BUGS = {
    "missing barrier": {"thread": "data race", "plain": "result"},
    "missing barrier in a loop": {"thread": "data race"},
    "shuffle as a fence": {"thread": "data race"},
    "missing fence before the ticket": {"thread": "data race"},
    "missing fence after the ticket": {"thread": "data race"},
    "divergent shuffle": dict.fromkeys(BUILDS, "deadlock"),
    "divergent barrier": dict.fromkeys(BUILDS, "barrier divergence"),
    "uninitialised shared memory": {"plain": "nan", "address": "nan"},
    "out of bounds": {"address": "heap-buffer-overflow"},
    "misaligned": {"address": "misaligned address"},
    "shared memory out of bounds": {"address": "heap-buffer-overflow"},
    "stale ticket": {"plain": "result", "address": "result"},
}


@pytest.mark.parametrize("build", BUILDS)
def test_correct_kernel_passes(devices, build):
    for seed in range(4):
        devices(build).schedule(seed, 1 + seed)
        assert devices(build).bug("missing barrier", False).tolist() == [4093, 4093]


@pytest.mark.parametrize(
    "name, build, sign", [(n, b, s) for n, signs in BUGS.items() for b, s in signs.items()]
)
def test_injected_bug_is_seen(devices, name, build, sign):
    device = devices(build)
    device.schedule(1, 2)
    if sign == "nan":
        assert np.isnan(device.bug(name, True)).all()
    elif sign == "result":
        assert device.bug(name, True).tolist() != [4093, 4093]
    else:
        with pytest.raises(KernelError, match=sign):
            device.bug(name, True)


@pytest.mark.parametrize("build", ["address", "thread"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_moments(devices, build, dtype):
    device = devices(build)
    for n in (1, 5, 513, 2049, 4999):
        for misalign in range(16 // harness.ELEMENT_BYTES[dtype]):
            checks.check_moments(device, checks.numbers(n, n), dtype, misalign=misalign)
    base = checks.numbers(30 * 40, 4).reshape(30, 40)
    checks.check_moments(device, base[::2, 3:31:3], dtype, strided=True)
    x = checks.numbers(3000, 1)
    x[[0, 1500, 2999]] = np.nan, np.inf, -np.inf
    checks.check_moments(device, x, dtype)


@pytest.mark.parametrize("build", ["address", "thread"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ["relu", "tanh"])
def test_act(devices, build, act, dtype):
    device = devices(build)
    checks.check_act(device, act, dtype, (33, 61), misalign=1)
    checks.check_act(device, act, dtype, (40, 64), bias=True)
    for misalign in range(16 // harness.ELEMENT_BYTES[dtype]):
        checks.check_act(device, act, dtype, (9, 127), misalign=misalign, in_place=True)
    checks.check_act(device, act, dtype, (3, 5, 7, 7), unit_dim=1)
    checks.check_act(device, act, dtype, (2, 16, 4, 4), unit_dim=1)
    checks.check_act_backward(device, act, dtype, 2049, misalign=1)


@pytest.mark.parametrize("build", ["address", "thread"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "rows, cols, depth",
    [(1, 1, 1), (16, 12, 130), (33, 3, 70), (5, 9, 0), (48, 4, 600), (3, 7, 1025)],
)
def test_linear_act(devices, build, dtype, rows, cols, depth):
    device = devices(build)
    if build == "thread":  # three blocks: two tiles of either shape, and who measures W
        rows, cols = min(rows, 32), min(cols, 8)
    checks.check_linear_act(device, rows, cols, depth, dtype)
    checks.check_linear_act(device, rows, cols, depth, dtype, padding=3, misalign=1, seed=1)


# ThreadSanitizer: at most 3 blocks of 64 threads, a Philox block to each thread.
@pytest.mark.parametrize("build", ["address", "thread"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sampling(devices, build, dtype):
    device = devices(build)
    for shape in sampling.SHAPES:
        sampling.check(device, dtype, shape, (301,), offset=3, misalign=1)
    sampling.check(device, dtype, "uniform", (5, 6, 4), order=(2, 0, 1), step=2)
    sampling.check(device, dtype, "symmetric", (6, 10), stream=(40, 1), offset=13)
    sampling.check_zero_rows(device, dtype, 50, 70, 7)
