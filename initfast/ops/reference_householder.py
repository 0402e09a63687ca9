"""Q from the reflections that a matrix gives, in plain PyTorch: on any device, of any dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from initfast.ops.checks import check_extent

_BLOCK = 64  # reflections applied together
_WIDE = {
    torch.float32: torch.float64,
    torch.float64: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex128: torch.complex128,
}


def householder_q_(x: Tensor) -> None:
    """Make of independent normals, in place, the Q that their reflections give.

    Reflections are applied in blocks, from the last to the first, as I - V T V^H with T^-1 the
    upper triangle of V^H V, its diagonal halved (Joffrain et al. 2006, "Accumulating Householder
    transformations, revisited"). In double precision, which neither autocast nor the settings of
    matrix products (TF32, bfloat16) make less of.

    Args:
        x: ``[rows, cols]``, rows >= cols; float or complex.

    Example:
        >>> x = torch.randn(4, 3, dtype=torch.float64)
        >>> householder_q_(x)
        >>> torch.allclose(x.T @ x, torch.eye(3, dtype=torch.float64))
        True
    """
    check_tall(x)
    with _one_thread(x.device):
        x.copy_(_q_of(x.to(_WIDE[x.dtype], copy=True)))


def _q_of(x: Tensor) -> Tensor:
    """Q of the reflections that x gives; x is overwritten."""
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
    return q


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Let the library add up products on the CPU in an order that no number of threads decides."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_tall(x: Tensor) -> None:
    """Raise RuntimeError unless x is a matrix with no more columns than rows."""
    if x.dim() != 2 or x.shape[0] < x.shape[1]:
        raise RuntimeError(
            f"initfast::householder_q_: x has shape {tuple(x.shape)}; "
            "expected a matrix with no more columns than rows"
        )
    check_extent(x, "initfast::householder_q_: x")


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
