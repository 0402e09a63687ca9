"""The CUDA sampler on the host, bit for bit against the CPU's operators."""

from __future__ import annotations

import math

import torch
from cuda_on_cpu.harness import Device

import initfast

TORCH = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
SHAPES = ("uniform", "symmetric", "skewed", "one_sided")


def distribution(shape: str, dtype: str) -> tuple[torch.Tensor | None, tuple[float, ...]]:
    """A table of the shape, and scale, location, low, high."""
    wide = torch.float64 if dtype == "float64" else torch.float32
    if shape == "uniform":
        return None, (3 * 2.0 ** (-64 if wide == torch.float64 else -32), 0.25, -1.25, 1.75)
    bounds = {"symmetric": (-math.inf, math.inf), "skewed": (-1.0, 3.0), "one_sided": (1.5, 4.0)}
    table = initfast.ops.quantile_tables.truncated_normal(*bounds[shape], wide)
    assert table.shape == shape, table.shape
    return table.coefficients.contiguous(), (0.5, 0.125, -9.0, 9.0)


def as_bytes(memory: torch.Tensor) -> bytes:
    return memory.view(torch.uint8).numpy().tobytes()


def check(
    device: Device,
    dtype: str,
    shape: str,
    size: tuple[int, ...],
    *,
    key: int = 0x0123456789ABCDEF,
    offset: int = 0,
    stream: tuple[int, ...] | None = None,
    order: tuple[int, ...] | None = None,
    step: int = 1,
    misalign: int = 0,
) -> None:
    """Sample a tensor of `size` on both; order: its dimensions as they lie in memory, outermost
    first; step: numbers between neighbours in memory; stream: its strides in the stream."""
    order = order or tuple(range(len(size)))
    strides = [0] * len(size)
    extent = step
    for d in reversed(order):
        strides[d] = extent
        extent *= size[d]
    memory = torch.full((extent,), 7.0, dtype=TORCH[dtype])
    out = memory.as_strided(size, strides)
    if stream is None:
        stream = tuple(math.prod(size[d + 1 :]) for d in range(len(size)))
    table, affine = distribution(shape, dtype)
    before = as_bytes(memory)
    torch.ops.initfast.sample_(out, shape, table, *affine, key, offset, stream)
    dims = [(n, s, g) for n, s, g in zip(size, strides, stream, strict=True) if n > 1]
    got = device.sample(
        *(before, dtype, shape, b"" if table is None else as_bytes(table), affine, key, offset),
        *(dims or [(1, 1, 1)], misalign),
    )
    assert got == as_bytes(memory)


def check_zero_rows(device: Device, dtype: str, rows: int, cols: int, count: int) -> None:
    matrix = torch.arange(1.0, rows * cols + 1).remainder(99).add(1).to(TORCH[dtype])
    for strides in ((cols, 1), (1, rows)):
        for place in ((rows, 0, 0), (rows + 9, 4, 1000)):
            memory = matrix.clone()
            torch.ops.initfast.zero_rows_(
                memory.as_strided((rows, cols), strides), count, 5, *place
            )
            got = device.zero_rows(as_bytes(matrix), dtype, (rows, cols), strides, count, 5, place)
            assert got == as_bytes(memory)
