"""Orthogonal matrices: orthogonal to rounding, by Haar measure, the same everywhere."""

import math
import os
import subprocess
import sys

import pytest
import torch

from initfast import init
from initfast.init.orthogonal import haar
from initfast.ops.reference_householder import householder_q_
from initfast.ops.schemas import LIBRARY

REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def gram_error(q):
    q = q.detach().double() if not q.is_complex() else q.detach().to(torch.complex128)
    gram = q @ q.mH if q.shape[0] < q.shape[1] else q.mH @ q
    return (gram - torch.eye(len(gram), dtype=gram.dtype)).abs().max().item()


@pytest.mark.parametrize(
    "rows, cols", [(1, 1), (3, 4), (4, 3), (1, 9), (130, 128), (300, 700), (513, 513)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_orthogonal_to_rounding(rows, cols, dtype):
    bound = 2 * torch.finfo(dtype).eps * math.sqrt(max(rows, cols))
    q = init.orthogonal_(torch.empty(rows, cols, dtype=dtype))
    assert gram_error(q) < bound
    scaled = init.orthogonal_(torch.empty(rows, cols, dtype=dtype), gain=3.0, key=2)
    assert torch.allclose(scaled, 3 * init.orthogonal_(q, key=2), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (20, 3, 5, 5), (7, 2, 3)])
@pytest.mark.parametrize("gain", [1, 2, 0.5])
def test_orthogonal_flattens_like_torch(shape, gain):
    q = init.orthogonal_(torch.empty(shape), gain=gain).flatten(1)
    if q.shape[0] > q.shape[1]:
        product = q.t() @ q
    else:
        product = q @ q.t()
    assert torch.allclose(product, torch.eye(len(product)) * gain**2, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_orthogonal_in_16_bits_is_rounded_float32(dtype):
    q = init.orthogonal_(torch.empty(40, 30), gain=1.5, key=3)
    half = init.orthogonal_(torch.empty(40, 30, dtype=dtype), gain=1.5, key=3)
    assert torch.equal(half, q.to(dtype))


@pytest.mark.parametrize("shape", [(300, 200), (500, 301), (257, 600), (65, 5, 7, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_orthogonal_whatever_the_threads(shape, dtype):
    """Bit for bit, where our kernels run; the reference's product is the library's."""
    native = LIBRARY.backend == "native"
    results = []
    for threads in (1, 2, 3, 5) if native else (1, 2):
        torch.set_num_threads(threads)
        results.append(init.orthogonal_(torch.empty(shape, dtype=dtype), key=1))
    for other in results[1:]:
        if native:
            assert torch.equal(other, results[0])
        else:
            assert (other - results[0]).abs().max() < 1e-6


def test_orthogonal_whatever_the_instruction_set(tmp_path):
    """The same bits where numbers are multiplied and added in one instruction, else to rounding."""
    script = (
        "import sys, torch, initfast\n"
        "w = torch.empty(500, 400), torch.empty(200, 130, dtype=torch.float64)\n"
        "torch.save([initfast.init.orthogonal_(x, key=3) for x in w], sys.argv[1])\n"
    )
    results = {}
    for isa in ("baseline", "avx2", "avx512"):
        path = tmp_path / isa
        environment = {**os.environ, "INITFAST_ISA": isa}
        run = subprocess.run(
            [sys.executable, "-c", script, str(path)], env=environment, capture_output=True
        )
        if run.returncode == 0:
            results[isa] = torch.load(path)
        else:
            assert b"lacks" in run.stderr or b"expected one of" in run.stderr, run.stderr
    for isa, found in results.items():
        for mine, truth in zip(found, results["baseline"], strict=True):
            assert (mine - truth).abs().max() < 30 * torch.finfo(mine.dtype).eps, isa
    if "avx512" in results and LIBRARY.backend == "native":
        assert all(map(torch.equal, results["avx2"], results["avx512"]))


@pytest.mark.parametrize("rows, cols", [(1, 1), (8, 8), (70, 63), (64, 64), (200, 129), (131, 130)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_householder_kernels_agree_with_the_reference(rows, cols, dtype):
    x = torch.randn(rows, cols, dtype=dtype)
    x[:, cols // 2] = 0  # reflected along the diagonal
    truth = x.double()
    householder_q_(truth)
    torch.ops.initfast.householder_q_(x)
    assert (x - truth).abs().max() < 20 * torch.finfo(dtype).eps


def test_householder_refuses():
    for x in (torch.randn(3, 4), torch.randn(4), torch.randn(4, 3, 2)):
        with pytest.raises(RuntimeError, match="no more columns than rows"):
            torch.ops.initfast.householder_q_(x)
    x = torch.randn(5, 3)
    torch.library.opcheck(torch.ops.initfast.householder_q_, (x,))


def test_orthogonal_is_the_factor_of_its_normals():
    """haar() is Q of the QR that it leaves out: column by column, in float64, unblocked."""
    rows, cols = 150, 140
    q = haar(rows, cols, 5, torch.float64, torch.device("cpu"))
    normals = init.normal_(torch.empty(rows, cols, dtype=torch.float64), key=5)
    truth = torch.eye(rows, dtype=torch.float64)
    signs = torch.ones(cols, dtype=torch.float64)
    for j in range(cols):
        x = torch.zeros(rows, dtype=torch.float64)
        x[j:] = normals[j:, j]
        signs[j] = -x[j].sign()
        x[j] += x[j].sign() * x.norm()
        truth = truth - torch.outer(truth @ x, 2 * x / x.dot(x))
    assert torch.allclose(q, truth[:, :cols] * signs, atol=1e-12)


def eigenphases(matrices):
    return torch.linalg.eigvals(matrices).angle().flatten()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_orthogonal_is_haar(dtype):
    """Entries' moments, the distribution of the trace, of eigenvalue phases and of signs."""
    torch.set_num_threads(1)
    n, draws = 6, 4000
    device = torch.device("cpu")
    q = torch.stack([haar(n, n, key, dtype, device) for key in range(draws)])
    noise = 5 / math.sqrt(draws)
    second, fourth = q.abs().square().mean(0), q.abs().pow(4).mean(0)
    # E q^4 = 3 / (n (n + 2)), E |u|^4 = 2 / (n (n + 1)) (Mezzadri 2007).
    expected = 2 / (n * (n + 1)) if dtype.is_complex else 3 / (n * (n + 2))
    assert (second - 1 / n).abs().max() < noise * 0.25
    assert (fourth - expected).abs().max() < noise * 0.2
    assert (q.mean(0)).abs().max() < noise * 0.5
    trace = q.diagonal(dim1=1, dim2=2).sum(1)
    assert trace.mean().abs() < noise and abs(trace.abs().square().mean() - 1) < 2 * noise
    if (
        dtype.is_complex
    ):  # every phase alike; of real matrices the diagonal's sign and the determinant
        phases = (eigenphases(q) + math.pi).sort().values / (2 * math.pi)
        even = torch.arange(1, len(phases) + 1) / len(phases)
        assert (phases - even).abs().max() < 1.63 / math.sqrt(len(phases))
    else:
        assert abs(torch.linalg.det(q).mean()) < noise
        first = (q[:, 0, 0] > 0).double().mean()
        assert abs(first - 0.5) < noise / 2


@pytest.mark.parametrize("shape", [(8, 8, 3), (9, 4, 3, 4), (6, 5, 2, 3, 5)])
def test_delta_orthogonal(shape):
    w = init.delta_orthogonal_(torch.empty(shape), gain=2.0)
    centre = tuple((k - 1) // 2 for k in shape[2:])
    matrix = w[(slice(None), slice(None), *centre)]
    assert torch.allclose(matrix.t() @ matrix, 4 * torch.eye(shape[1]), atol=4e-6)
    assert w.count_nonzero() == matrix.count_nonzero()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
def test_plain_pytorch_gives_the_same_bits_whatever_the_threads_casts_and_precisions(dtype):
    """Autocast, bfloat16 products for float32 ones, and how many threads share a sum."""
    normals = torch.randn(300, 200, dtype=dtype)

    def q():
        x = normals.clone()
        householder_q_(x)
        return x

    torch.set_num_threads(1)
    expected = q()
    precision = torch.get_float32_matmul_precision()
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(q(), expected)
            assert torch.get_num_threads() == threads
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(q(), expected)
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(q(), expected)
    finally:
        torch.set_float32_matmul_precision(precision)
    gram = expected.mH @ expected
    tolerance = 1e-13 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(gram, torch.eye(200, dtype=dtype), atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["orthogonal_", "delta_orthogonal_"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex32], ids=str)
def test_autocast_changes_nothing(name, dtype):
    draw = getattr(init, name)
    expected = draw(torch.empty(40, 30, 3, dtype=dtype), key=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = draw(torch.empty(40, 30, 3, dtype=dtype), key=1)
    assert torch.equal(
        torch.view_as_real(cast) if dtype.is_complex else cast,
        torch.view_as_real(expected) if dtype.is_complex else expected,
    )
