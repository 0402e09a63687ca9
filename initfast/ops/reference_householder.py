"""Q from the reflections that a matrix gives, in plain PyTorch: on any device, of any dtype."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 64  # reflections applied together


def householder_q_(x: Tensor) -> None:
    """Make of independent normals, in place, the Q that their reflections give.

    Reflections are applied in blocks, from the last to the first, as I - V T V^H with T^-1 the
    upper triangle of V^H V, its diagonal halved (Joffrain et al. 2006, "Accumulating Householder
    transformations, revisited").

    Args:
        x: ``[rows, cols]``, rows >= cols; float or complex.

    Example:
        >>> x = torch.randn(4, 3, dtype=torch.float64)
        >>> householder_q_(x)
        >>> torch.allclose(x.T @ x, torch.eye(3, dtype=torch.float64))
        True
    """
    check_tall(x)
    cols = x.shape[1]
    q = torch.empty_like(x)
    for start in reversed(range(0, cols, _BLOCK)):
        stop = min(start + _BLOCK, cols)
        v = x[start:, start:stop].clone()
        signs = _reflect_(v)
        top, below = v[: stop - start], v[stop - start :]
        t = _minus_t(v)
        # What the block is applied to: diag(signs, q[stop:, stop:]), its zeros left out.
        torch.mm(v, t @ (top.mH * signs), out=q[start:, start:stop])
        q[start:, start:stop].diagonal().add_(signs)
        weights = t @ (q[stop:, stop:].mH @ below).mH
        torch.mm(top, weights, out=q[start:stop, stop:])
        q[stop:, stop:].addmm_(below, weights)
    x.copy_(q)


def check_tall(x: Tensor) -> None:
    """Raise RuntimeError unless x is a matrix with no more columns than rows."""
    if x.dim() != 2 or x.shape[0] < x.shape[1]:
        raise RuntimeError(
            f"initfast::householder_q_: x has shape {tuple(x.shape)}; "
            "expected a matrix with no more columns than rows"
        )


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
