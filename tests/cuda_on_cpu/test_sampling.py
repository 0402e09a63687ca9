"""The CUDA sampler on the host: its bits are the CPU's."""

from __future__ import annotations

import pytest
from cuda_on_cpu import sampling
from cuda_on_cpu.harness import DTYPES
from cuda_on_cpu.sampling import SHAPES
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_distribution(device, shape, dtype):
    sampling.check(device, dtype, shape, (20011,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 1023, 1025])
@pytest.mark.parametrize("offset", [0, 1, 2, 3, 5, 2**34 - 6, 2**40 + 3])
def test_sizes_and_offsets(device, n, offset, dtype):
    sampling.check(device, dtype, "symmetric", (n,), offset=offset, misalign=n % 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("step", [1, 2])
def test_layouts(device, order, step, dtype):
    sampling.check(device, dtype, "uniform", (5, 6, 7), order=order, step=step)


@pytest.mark.parametrize("dtype", DTYPES)
def test_shards(device, dtype):
    sampling.check(device, dtype, "symmetric", (6, 10), stream=(40, 1), offset=13)
    sampling.check(device, dtype, "symmetric", (6, 10), stream=(1, 6), offset=2)
    sampling.check(device, dtype, "symmetric", (3, 4, 5), stream=(100, 25, 3), offset=1)
    sampling.check(device, dtype, "uniform", (9,), stream=(7,), offset=1)
    sampling.check(device, dtype, "uniform", ())


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1, 2**32])
def test_keys(device, key):
    sampling.check(device, "float32", "symmetric", (4001,), key=key)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, cols, count", [(1, 1, 1), (10, 3, 0), (50, 300, 7), (64, 5, 64)])
def test_zeros_at_random_places(device, rows, cols, count, dtype):
    sampling.check_zero_rows(device, dtype, rows, cols, count)


@settings(max_examples=40, deadline=None)
@given(
    size=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    offset=st.integers(0, 2**45),
    key=st.integers(0, 2**63 - 1),
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_any_tensor(device, size, offset, key, shape, dtype, data):
    order = tuple(data.draw(st.permutations(range(len(size)))))
    sampling.check(device, dtype, shape, tuple(size), order=order, offset=offset, key=key)
