"""Random orthogonal matrices, distributed by Haar measure."""

from __future__ import annotations

import torch
from torch import Tensor

from initfast import fill
from initfast.reference_householder import householder_q_

_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}
_SMALL = 1 << 17  # elements up to which double precision costs nothing to speak of


def haar(rows: int, cols: int, key: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A matrix with orthonormal columns (rows where cols > rows), uniform among all such.

    Householder's QR of a matrix of independent normals gives one, its columns' signs set by the
    diagonal of R (Mezzadri 2007). The normals below the part factorised stay independent, so the
    reflections may as well be drawn directly, and nothing be factorised (Stewart 1980, "The
    efficient generation of random orthogonal matrices"): half the work.

    On the CPU the kernels of csrc/cpu/householder.inl do it (real numbers), with the same bits at
    any number of threads; elsewhere the library's matrix product.

    Args:
        rows, cols: at least 1.
        key: of the stream that the normals come from.
        dtype: float32, float64, complex64 or complex128.
        device: of the result.

    Returns:
        ``[rows, cols]``.

    Example:
        >>> q = haar(4, 3, 0, torch.float64, torch.device("cpu"))
        >>> torch.allclose(q.T @ q, torch.eye(3, dtype=torch.float64))
        True
    """
    if rows < cols:
        return haar(cols, rows, key, dtype, device).mT
    if dtype in _WIDER and rows * cols <= _SMALL:
        return haar(rows, cols, key, _WIDER[dtype], device).to(dtype)
    x = fill.normal(torch.empty(rows, cols, dtype=dtype, device=device), 0.0, 1.0, key)
    if dtype.is_complex:  # the kernels are for real numbers
        householder_q_(x)
    else:
        torch.ops.initfast.householder_q_(x)
    return x
