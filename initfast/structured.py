"""Initialisers whose elements hang together: see :mod:`initfast.init`.

Each rank of a DTensor computes its own shard, but for what hangs together as a whole: orthogonal
matrices, and the places of sparse_'s zeros (each rank computes them all).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from initfast import fill, ops
from initfast.keys import ArgumentError, derive_key
from initfast.orthogonal import haar
from initfast.shards import Shard, is_distributed, shard_of


@fill.initialiser
def eye_(tensor: Tensor) -> Tensor:
    """Fill with the identity: ones on the main diagonal, as many as fit.

    Args:
        tensor: two dimensions.

    Returns:
        tensor.

    Raises:
        ValueError: not two dimensions.

    Example:
        >>> eye_(torch.empty(2, 3)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if tensor.dim() != 2:
        raise ValueError(
            f"Only tensors with 2 dimensions are supported; the shape is {tuple(tensor.shape)}"
        )
    return _fill_centre(tensor, "eye_", (), lambda out, inputs: out == inputs)


@fill.initialiser
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight with the identity: channels pass unchanged, as many as fit.

    Args:
        tensor: ``[out, in / groups, ...]``, three to five dimensions.
        groups: of the convolution, each of which passes its own channels.

    Returns:
        tensor.

    Raises:
        ValueError: not three to five dimensions, or groups do not divide the first.

    Example:
        >>> x = torch.randn(1, 4, 8)
        >>> w = dirac_(torch.empty(4, 4, 3))
        >>> torch.equal(torch.nn.functional.conv1d(x, w, padding=1), x)
        True
    """
    _check_convolution(tensor)
    if groups < 1 or tensor.shape[0] % groups != 0:
        raise ValueError(
            f"dim 0 must be divisible by groups (it is {tensor.shape[0]}, groups is {groups})"
        )
    per_group = tensor.shape[0] // groups
    centre = tuple(k // 2 for k in tensor.shape[2:])
    return _fill_centre(tensor, "dirac_", centre, lambda out, inputs: out % per_group == inputs)


@fill.initialiser
def identity_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Fill with an identity that wastes nothing where the weight is not square.

    Output o of more outputs than inputs copies input o modulo the inputs: no output is dead. Output
    o of fewer sums the inputs that are o modulo the outputs, over the root of their number: the
    rows are orthonormal. Either way independent inputs of one variance give outputs of the same.

    Args:
        tensor: a linear layer's weight ``[out, in]`` or a convolution's ``[out, in, ...]``, three
            to five dimensions, whose kernel is zero but for its centre.
        gain: a factor.

    Returns:
        tensor.

    Raises:
        ValueError: not two to five dimensions, a gain that is not finite, an integer tensor.

    Example:
        >>> identity_(torch.empty(4, 2)).tolist()
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    if tensor.dim() != 2:
        _check_convolution(tensor)
    fill.check(tensor, "identity_")
    fill.finite("identity_", gain=gain)
    rows, cols = tensor.shape[:2]
    fewer = min(rows, cols)

    def links(out: Tensor, inputs: Tensor) -> Tensor:
        summed = (cols - out + rows - 1) // rows if rows < cols else torch.ones_like(out)
        return (out % fewer == inputs % fewer) * (gain / summed.double().sqrt()).to(tensor.dtype)

    return _fill_centre(tensor, "identity_", tuple(k // 2 for k in tensor.shape[2:]), links)


@fill.initialiser
def orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
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
    if tensor.dim() < 2:
        raise ValueError(
            "Only tensors with 2 or more dimensions are supported; "
            f"the shape is {tuple(tensor.shape)}"
        )
    fill.check(tensor, "orthogonal_")
    fill.finite("orthogonal_", gain=gain)
    if tensor.numel() == 0 or fill.has_no_data(tensor):
        return tensor
    stream = fill.next_key(tensor, generator, key)
    shape, rows = tensor.shape, tensor.shape[0]
    cols = tensor.numel() // rows

    wide = torch.promote_types(tensor.dtype, torch.float32)

    def into(shard: Shard) -> None:
        whole = haar(rows, cols, stream, wide, shard.local.device).mul_(gain).reshape(shape)
        shard.local.copy_(shard.cut(whole))

    return fill.write(tensor, into)


@fill.initialiser
def delta_orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
) -> Tensor:
    """Fill a convolution's weight with zeros, and its centre with an orthogonal matrix.

    Such a convolution preserves norms at any depth (Xiao et al. 2018, algorithm 1). The centre is
    (k - 1) // 2 in every direction.

    Args:
        tensor: ``[out, in, ...]``, three to five dimensions, in <= out.
        gain: a factor.
        generator: where the key comes from; torch's default CPU generator where None.
        key: the 64 bits that decide every value, in place of a generator.

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
    _check_convolution(tensor)
    if tensor.shape[1] > tensor.shape[0]:
        raise ValueError(
            f"delta_orthogonal_: the weight has {tensor.shape[1]} inputs and {tensor.shape[0]} "
            "outputs; expected no more inputs than outputs"
        )
    fill.check(tensor, "delta_orthogonal_")
    fill.finite("delta_orthogonal_", gain=gain)
    if tensor.numel() == 0 or fill.has_no_data(tensor):
        return tensor
    stream = fill.next_key(tensor, generator, key)
    rows, cols = tensor.shape[:2]
    wide = torch.promote_types(tensor.dtype, torch.float32)

    def entries(out: Tensor, inputs: Tensor) -> Tensor:
        return haar(rows, cols, stream, wide, out.device).mul_(gain)[out, inputs]

    centre = tuple((k - 1) // 2 for k in tensor.shape[2:])
    return _fill_centre(tensor, "delta_orthogonal_", centre, entries)


@fill.initialiser
def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
) -> Tensor:
    """Fill with N(0, std²), then zero ceil(sparsity * rows) elements of each column (Martens 2010).

    Args:
        tensor: ``[rows, cols]``.
        sparsity: the share of zeros, 0 to 1.
        std: standard deviation of the others, not negative.
        generator: where the key comes from, the zeros' places included; torch's default CPU
            generator where None.
        key: the 64 bits that decide every value, in place of a generator.

    Returns:
        tensor.

    Raises:
        ValueError: not two dimensions, sparsity outside [0, 1], std negative or NaN, an integer
            tensor, a generator on another device.

    Example:
        >>> w = sparse_(torch.empty(10, 4), sparsity=0.25)
        >>> (w == 0).sum(0).tolist()
        [3, 3, 3, 3]
    """
    if tensor.dim() != 2:
        raise ValueError(
            f"Only tensors with 2 dimensions are supported; the shape is {tuple(tensor.shape)}"
        )
    if not 0 <= sparsity <= 1:
        raise ArgumentError(f"sparse_: sparsity is {sparsity}; expected a number from 0 to 1")
    fill.check(tensor, "sparse_")
    if not std >= 0:
        raise ArgumentError(f"sparse_: std is {std}; expected std >= 0")
    if fill.has_no_data(tensor):
        return tensor
    stream = fill.next_key(tensor, generator, key)
    rows, cols = tensor.shape
    zeros = math.ceil(sparsity * rows)
    places = derive_key(stream, "sparse_")
    fill.normal(tensor, 0.0, std, stream)  # counts the version; the zeros do not again
    if is_distributed(tensor) or tensor.is_complex() or tensor.is_neg():
        shard = shard_of(tensor)
        kept = torch.ones(rows, cols, dtype=torch.bfloat16, device=shard.local.device)
        ops.zero_rows_(kept, zeros, places)
        shard.local.data.masked_fill_(shard.cut(kept) == 0, 0)
    else:
        torch.ops.initfast.zero_rows_(tensor, zeros, places)
    return tensor


def _fill_centre(
    tensor: Tensor,
    name: str,
    centre: tuple[int, ...],
    entries: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Fill with zeros, but at the kernel's centre with the entries of a matrix.

    Args:
        tensor: ``[out, in, ...]``.
        name: of the initialiser, for errors.
        centre: the place in the trailing dimensions.
        entries: given outputs ``[m, 1]`` and inputs ``[n]``, the entries ``[m, n]`` there.
    """
    fill.check_memory(tensor, name)
    if fill.has_no_data(tensor):
        return tensor

    def into(shard: Shard) -> None:
        local = shard.local.zero_()
        at = tuple(c - s for c, s in zip(centre, shard.start[2:], strict=True))
        inside = all(0 <= i < n for i, n in zip(at, local.shape[2:], strict=True))
        if inside and local.numel() > 0:
            out, inputs = (
                torch.arange(start, start + size, device=local.device)
                for start, size in zip(shard.start[:2], local.shape[:2], strict=True)
            )
            place: Any = (slice(None), slice(None), *at)
            local[place] = entries(out.unsqueeze(1), inputs)

    return fill.write(tensor, into)


def _check_convolution(tensor: Tensor) -> None:
    if tensor.dim() not in (3, 4, 5):
        raise ValueError(
            "Only tensors with 3, 4, or 5 dimensions are supported; "
            f"the shape is {tuple(tensor.shape)}"
        )
