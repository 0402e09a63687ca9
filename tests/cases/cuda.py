"""What the tests on a card share: when they run, numbers, comparisons with float64 on the CPU."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from initfast.ops import checks, reference

MARKS = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

DTYPES = tuple(checks.DTYPES)
# Float32's arithmetic, or float64's; then the one rounding to the dtype.
TOLERANCE = {
    torch.float32: 4e-6,
    torch.float64: 1e-12,
    torch.bfloat16: 2**-8 + 4e-6,
    torch.float16: 2**-11 + 4e-6,
}


@pytest.fixture(autouse=True)
def one_rounding():
    """The library's products add 16-bit numbers in float32 too; nothing is left on the card."""
    matmul = torch.backends.cuda.matmul
    options = "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"
    before = {name: getattr(matmul, name) for name in options}
    for name in options:
        setattr(matmul, name, False)
    yield
    for name, value in before.items():
        setattr(matmul, name, value)
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()


def quietly(function, *arguments):
    """Call an operator; a synchronisation inside it raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        return function(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def waits(function, *arguments, **options):
    """What a function returns, and how often it waits for the card."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            result = function(*arguments, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return result, len([w for w in seen if "synchronizing" in str(w.message)])


def numbers(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
    """Normal numbers with some exact zeros among them, on the CPU."""
    x = torch.randn(*shape, dtype=torch.float64) * scale
    return x.masked_fill_(torch.rand(*shape) < 0.05, 0).to(dtype)


def check_row(row: torch.Tensor, x: torch.Tensor) -> None:
    """One row of moments against float64 arithmetic on the numbers of x."""
    got = row.cpu().tolist()
    expected = reference.moments(x.detach().cpu().double()).tolist()
    assert got[:3] == expected[:3]
    if got[0] == got[1]:
        assert got[4:] == expected[4:]
        return
    rms = math.sqrt(expected[4] ** 2 + expected[5] / (expected[0] - expected[1]))
    assert abs(got[4] - expected[4]) <= 1e-6 * rms
    assert got[5] == pytest.approx(expected[5], rel=2e-6)
    assert got[6:9] + got[11:] == expected[6:9] + expected[11:]
    assert got[10] == pytest.approx(expected[10], rel=4e-6)
    assert abs(got[9] - expected[9]) <= 4e-6 * math.sqrt(expected[5] * expected[10])


def check_values(got: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> None:
    """Numbers against exact ones that were rounded once."""
    error = (got.cpu().double() - exact).abs() / exact.abs().clamp(min=1)
    assert error.numel() == 0 or error.max() <= TOLERANCE[dtype]


def check_product(
    got: torch.Tensor, a: torch.Tensor, b: torch.Tensor, offset: torch.Tensor | float = 0.0
) -> None:
    """a b + offset of matrices on the CPU; every partial sum rounds, a few terms long or many."""
    a, b = a.double(), b.double()
    exact, size = a @ b + offset, a.abs() @ b.abs() + abs(offset)
    unit = 2.0**-53 if got.dtype == torch.float64 else 2.0**-24
    bound = unit * (16 + a.shape[1] / 32) * size + TOLERANCE[got.dtype] * exact.abs()
    assert ((got.cpu().double() - exact).abs() <= bound).all()


def need_memory(gigabytes: float) -> None:
    """Skip the test unless so much of the card's memory is free."""
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] / 1e9
    if free < gigabytes:
        pytest.skip(f"{free:.0f} GB of the card's memory are free, {gigabytes} needed")
