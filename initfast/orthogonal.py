"""Random orthogonal matrices, distributed by Haar measure."""

from __future__ import annotations

import torch
from torch import Tensor

from initfast import fill

_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}
_SMALL = 1 << 17  # elements up to which double precision costs nothing to speak of
_BLOCK = 128  # reflections applied together: enough for the library's matrix product to be fast
_PADDING = 16  # elements between rows


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
    normals = fill.normal(_padded(cols, rows, dtype, device).mT, 0.0, 1.0, key)
    q = _padded(rows, cols, dtype, device)
    for start in reversed(range(0, cols, _BLOCK)):
        stop = min(start + _BLOCK, cols)
        v = normals[start:, start:stop]
        signs = _reflect_(v)
        top, below = v[: stop - start], v[stop - start :]
        t = _minus_t(v)
        # What the block is applied to: diag(signs, q[stop:, stop:]), its zeros left out.
        torch.mm(v, t @ (top.mH * signs), out=q[start:, start:stop])
        q[start:, start:stop].diagonal().add_(signs)
        weights = t @ (q[stop:, stop:].mH @ below).mH
        torch.mm(top, weights, out=q[start:stop, stop:])
        q[stop:, stop:].addmm_(below, weights)
    return q


def _padded(rows: int, cols: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An empty matrix, rows not a power of two apart: they would share few places of a cache."""
    return torch.empty(rows, cols + _PADDING, dtype=dtype, device=device)[:, :cols]


def _reflect_(x: Tensor) -> Tensor:
    """Make of normals, in place, the reflections that would factorise them; return Q's signs.

    A column x from the diagonal down is reflected to -s |x| e_1, s being the sign (or phase) of its
    first element, by v = x + s |x| e_1. Q's column takes the sign -s, as if R had a positive
    diagonal. A column of zeros becomes e_1.
    """
    x[: x.shape[1]].tril_()
    first = x.diagonal()
    size = first.abs()
    signs = torch.where(size > 0, first / size, torch.ones_like(first))
    norm = x.norm(dim=0)
    first.add_(signs * torch.where(norm > 0, norm, torch.ones_like(norm)))
    return -signs


def _minus_t(v: Tensor) -> Tensor:
    """-T of the product I - V T V^H of reflections: T^-1 is V^H V's triangle, diagonal halved."""
    inverse = (v.mH @ v).triu_()
    inverse.diagonal().div_(2)
    minus_identity = -torch.eye(v.shape[1], dtype=v.dtype, device=v.device)
    return torch.linalg.solve_triangular(inverse, minus_identity, upper=True)
