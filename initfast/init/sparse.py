"""An initialiser that leaves so many weights of each column zero: see :mod:`initfast.init`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initfast.errors import ArgumentError
from initfast.init import filling
from initfast.init.drawing import Target, draw, law_of_matrices
from initfast.init.keys import derive_key
from initfast.init.laws import normal
from initfast.init.placement import Place, Shard


@filling.initialiser
def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill with N(0, std²), then zero ceil(sparsity * rows) elements of each column (Martens 2010).

    Args:
        tensor: ``[rows, cols]``.
        sparsity: the share of zeros, 0 to 1.
        std: standard deviation of the others, not negative.
        generator: where the key comes from, the zeros' places included; torch's default CPU
            generator where None.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.
        axes: see :func:`fan_in_and_fan_out`; columns are the inputs of each weight.

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
    target = Target(tensor, generator, key, place, axes)
    shape = target.matrix_shape
    if len(shape) != 2:
        raise ValueError(f"Only tensors with 2 dimensions are supported; the shape is {shape}")
    if not 0 <= sparsity <= 1:
        raise ArgumentError(f"sparse_: sparsity is {sparsity}; expected a number from 0 to 1")
    filling.check(tensor, "sparse_")
    if not std >= 0:
        raise ArgumentError(f"sparse_: std is {std}; expected std >= 0")
    return draw(target, "sparse", math.ceil(sparsity * shape[0]), std)


@law_of_matrices
def sparse(shard: Shard, key: int, zeros: float, std: float) -> None:
    """N(0, std^2) but for so many zeros in each column."""
    normal(shard, key, 0.0, std)
    local = shard.local
    out = torch.ones_like(local, dtype=torch.bfloat16) if local.is_complex() else local
    places = derive_key(key, "sparse_")
    torch.ops.initfast.zero_rows_(out, int(zeros), places, shard.shape[0], *shard.start)
    if local.is_complex():
        local.masked_fill_(out == 0, 0)
