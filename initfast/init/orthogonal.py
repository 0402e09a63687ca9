"""Initialisers that keep norms: random orthogonal matrices, by Haar measure."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initfast.init import filling
from initfast.init.drawing import Target, draw, law_of_matrices
from initfast.init.identity import check_convolution, write_centre
from initfast.init.laws import normal
from initfast.init.placement import Place, Shard, shard_of
from initfast.ops.reference_householder import householder_q_

_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}
_SMALL = 1 << 17  # elements up to which double precision costs nothing to speak of


def haar(rows: int, cols: int, key: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A matrix with orthonormal columns (rows where cols > rows), uniform among all such.

    Householder's QR of a matrix of independent normals gives one, its columns' signs set by the
    diagonal of R (Mezzadri 2007). The normals below the part factorised stay independent, so the
    reflections may as well be drawn directly, and nothing be factorised (Stewart 1980, "The
    efficient generation of random orthogonal matrices"): half the work.

    On the CPU the kernels of csrc/cpu/householder.inl do it (real numbers), elsewhere the library's
    matrix product in double precision; on the CPU with the same bits at any number of threads.

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
    x = torch.empty(rows, cols, dtype=dtype, device=device)
    normal(shard_of(x), key, 0.0, 1.0)
    if dtype.is_complex:  # the kernels are for real numbers
        householder_q_(x)
    else:
        torch.ops.initfast.householder_q_(x)
    return x


@filling.initialiser
def orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill with a random (semi-)orthogonal matrix, by Haar measure (Saxe et al. 2014).

    16-bit tensors are computed in float32. On the CPU the bits are the same at any number of
    threads and on every machine that multiplies and adds in one instruction (AVX2, AVX-512, NEON);
    complex numbers, and other devices, go through the library's matrix product and agree to
    rounding. A rank of a DTensor computes the whole matrix: each column depends on all reflections
    before it.

    Args:
        tensor: at least two dimensions, the trailing ones flattened; any layout, float or complex
            (then unitary).
        gain: a factor.
        generator: where the key comes from; torch's default CPU generator where None.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.
        axes: see :func:`fan_in_and_fan_out`; each weight is orthogonal by itself.

    Returns:
        tensor.

    Raises:
        ValueError: fewer than two dimensions, a gain that is not finite, an integer tensor, a
            generator on another device.

    Example:
        >>> q = orthogonal_(torch.empty(3, 5))
        >>> torch.allclose(q @ q.T, torch.eye(3), atol=1e-6)
        True
    """
    target = Target(tensor, generator, key, place, axes)
    if len(target.matrix_shape) < 2:
        raise ValueError(
            f"Only tensors with 2 or more dimensions are supported; the shape is {target.shape}"
        )
    return _draw(target, "orthogonal", gain)


@law_of_matrices
def orthogonal(shard: Shard, key: int, gain: float) -> None:
    """gain times an orthogonal matrix, the trailing dimensions unflattened."""
    cols = math.prod(shard.shape[1:])
    shard.local.copy_(shard.cut(_matrix(shard, cols, key, gain).reshape(shard.shape)))


@filling.initialiser
def delta_orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill a convolution's weight with zeros, and its centre with an orthogonal matrix.

    Such a convolution preserves norms at any depth (Xiao et al. 2018, algorithm 1). The centre is
    (k - 1) // 2 in every direction.

    Args:
        tensor: ``[out, in, ...]``, three to five dimensions, in <= out.
        gain: a factor.
        generator: where the key comes from; torch's default CPU generator where None.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.
        axes: see :func:`fan_in_and_fan_out`; each weight is orthogonal by itself.

    Returns:
        tensor.

    Raises:
        ValueError: not three to five dimensions, or more inputs than outputs; and what
            :func:`orthogonal_` raises.

    Example:
        >>> w = delta_orthogonal_(torch.empty(8, 4, 3, 3))
        >>> torch.allclose(w[:, :, 1, 1].T @ w[:, :, 1, 1], torch.eye(4), atol=1e-6)
        True
    """
    target = Target(tensor, generator, key, place, axes)
    shape = check_convolution(target.matrix_shape)
    if shape[1] > shape[0]:
        raise ValueError(
            f"delta_orthogonal_: the weight has {shape[1]} inputs and {shape[0]} outputs; "
            "expected no more inputs than outputs"
        )
    return _draw(target, "delta_orthogonal", gain)


@law_of_matrices
def delta_orthogonal(shard: Shard, key: int, gain: float) -> None:
    """Zeros, and at the centre gain times an orthogonal matrix."""
    matrix = _matrix(shard, shard.shape[1], key, gain)
    centre = tuple((k - 1) // 2 for k in shard.shape[2:])
    write_centre(shard, centre, lambda out, inputs: matrix[out, inputs])


def _draw(target: Target, name: str, gain: float) -> Tensor:
    """Draw by that law unless an argument is wrong or there is nothing to fill."""
    filling.check(target.tensor, f"{name}_")
    filling.finite(f"{name}_", gain=gain)
    return target.tensor if 0 in target.shape else draw(target, name, gain)


def _matrix(shard: Shard, cols: int, key: int, gain: float) -> Tensor:
    """gain times an orthogonal matrix of as many rows as the whole tensor."""
    wide = torch.promote_types(shard.local.dtype, torch.float32)
    return haar(shard.shape[0], cols, key, wide, shard.local.device).mul_(gain)
