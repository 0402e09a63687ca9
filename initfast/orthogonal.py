"""Random orthogonal matrices, distributed by Haar measure."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initfast import fill

_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}
_SMALL = 1 << 17  # elements up to which double precision costs nothing to speak of
_BLOCK = 128  # reflections applied together: enough for the library's matrix product to be fast


def haar(rows: int, cols: int, key: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A matrix with orthonormal columns (rows where cols > rows), uniform among all such.

    Householder's QR of a matrix of independent normals gives one, its columns' signs set by the
    diagonal of R (Mezzadri 2007). The normals below the part factorised stay independent, so the
    reflections may as well be drawn directly, and nothing be factorised (Stewart 1980, "The
    efficient generation of random orthogonal matrices"): half the work. Reflections are applied in
    blocks, from the last to the first, as I - V T V^H with T^-1 the upper triangle of V^H V, its
    diagonal halved (Joffrain et al. 2006, "Accumulating Householder transformations, revisited").

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
    normals = fill.normal(torch.empty(rows, cols, dtype=dtype, device=device), 0.0, 1.0, key)
    q = torch.zeros(rows, cols, dtype=dtype, device=device)
    for start in reversed(range(0, cols, _BLOCK)):
        size = min(_BLOCK, cols - start)
        v, signs = _reflections(normals[start:, start : start + size])
        q[start:, start:].diagonal()[:size] = signs
        t_inverse = (v.mH @ v).triu_()
        t_inverse.diagonal().div_(2)
        rest = q[start:, start:]
        weights = torch.linalg.solve_triangular(t_inverse, v.mH @ rest, upper=True)
        rest.addmm_(v, weights, alpha=-1)
    return q


def _reflections(normals: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of the reflections that would factorise these columns, and the signs of R.

    A column x from the diagonal down is reflected to -s |x| e_1, s being the sign (or phase) of its
    first element, by v = x + s |x| e_1, which is scaled to a squared norm of about 2. Q's column
    takes the sign -s, as if R had a positive diagonal.
    """
    v = normals.tril()
    first = v.diagonal()
    size = first.abs()
    signs = torch.where(size > 0, first / size, torch.ones_like(first))
    norm = v.norm(dim=0)
    v.diagonal().add_(signs * norm)
    length = (norm * (norm + size)).sqrt_()  # |v| / sqrt 2
    v /= length.clamp_(min=math.sqrt(torch.finfo(v.dtype).tiny))
    return v, -signs
