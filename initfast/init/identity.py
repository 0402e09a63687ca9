"""Initialisers that pass signals unchanged, as far as they fit: see :mod:`initfast.init`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from initfast.init import filling
from initfast.init.drawing import Target, each_matrix, has_no_data
from initfast.init.placement import Place, Shard
from initfast.ops.functions import count_write
from initfast.torch_state import operators_are_seen


@filling.initialiser
def eye_(tensor: Tensor, *, place: Place | None = None, axes: str | None = None) -> Tensor:
    """Fill with the identity: ones on the main diagonal, as many as fit.

    Args:
        tensor: two dimensions.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.
        axes: see :func:`fan_in_and_fan_out`; each weight is an identity by itself.

    Returns:
        tensor.

    Raises:
        ValueError: not two dimensions.

    Example:
        >>> eye_(torch.empty(2, 3)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    target = Target(tensor, place=place, axes=axes)
    if len(shape := target.matrix_shape) != 2:
        raise ValueError(f"Only tensors with 2 dimensions are supported; the shape is {shape}")
    return fill_centre(target, "eye_", (), lambda out, inputs: out == inputs)


@filling.initialiser
def dirac_(
    tensor: Tensor, groups: int = 1, *, place: Place | None = None, axes: str | None = None
) -> Tensor:
    """Fill a convolution's weight with the identity: channels pass unchanged, as many as fit.

    Args:
        tensor: ``[out, in / groups, ...]``, three to five dimensions.
        groups: of the convolution, each of which passes its own channels.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.
        axes: see :func:`fan_in_and_fan_out`; each weight is an identity by itself.

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
    target = Target(tensor, place=place, axes=axes)
    shape = check_convolution(target.matrix_shape)
    if groups < 1 or shape[0] % groups != 0:
        raise ValueError(
            f"dim 0 must be divisible by groups (it is {shape[0]}, groups is {groups})"
        )
    per_group = shape[0] // groups
    centre = tuple(k // 2 for k in shape[2:])
    return fill_centre(target, "dirac_", centre, lambda out, inputs: out % per_group == inputs)


@filling.initialiser
def identity_(
    tensor: Tensor, gain: float = 1.0, *, place: Place | None = None, axes: str | None = None
) -> Tensor:
    """Fill with an identity that wastes nothing where the weight is not square.

    Output o of more outputs than inputs copies input o modulo the inputs: no output is dead. Output
    o of fewer sums the inputs that are o modulo the outputs, over the root of their number: the
    rows are orthonormal. Either way independent inputs of one variance give outputs of the same.

    Args:
        tensor: a linear layer's weight ``[out, in]`` or a convolution's ``[out, in, ...]``, three
            to five dimensions, whose kernel is zero but for its centre.
        gain: a factor.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.
        axes: see :func:`fan_in_and_fan_out`; each weight is an identity by itself.

    Returns:
        tensor.

    Raises:
        ValueError: not two to five dimensions, a gain that is not finite, an integer tensor.

    Example:
        >>> identity_(torch.empty(4, 2)).tolist()
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    target = Target(tensor, place=place, axes=axes)
    shape = target.matrix_shape
    if len(shape) != 2:
        check_convolution(shape)
    filling.check(tensor, "identity_")
    filling.finite("identity_", gain=gain)
    rows, cols = shape[:2]
    fewer = min(rows, cols)

    def links(out: Tensor, inputs: Tensor) -> Tensor:
        summed = (cols - out + rows - 1) // rows if rows < cols else torch.ones_like(out)
        return (out % fewer == inputs % fewer) * (gain / summed.double().sqrt()).to(tensor.dtype)

    return fill_centre(target, "identity_", tuple(k // 2 for k in shape[2:]), links)


def fill_centre(
    target: Target,
    name: str,
    centre: tuple[int, ...],
    entries: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Fill with zeros, but at the kernel's centre with the entries of a matrix.

    Args:
        target: of weights ``[out, in, ...]``.
        name: of the initialiser, for errors.
        centre: the place in the trailing dimensions.
        entries: given outputs ``[m, 1]`` and inputs ``[n]``, the entries ``[m, n]`` there.
    """
    tensor = target.tensor
    filling.check_memory(tensor, name)
    if not operators_are_seen() and has_no_data(tensor):
        return tensor
    shard = target.shard
    local = shard.local
    values = torch.empty(local.shape, dtype=local.dtype, device=local.device)
    each_matrix(
        shard._replace(local=values), target.axes, 0, lambda s, _: write_centre(s, centre, entries)
    )
    local.copy_(values)
    if local is not tensor:
        count_write(tensor)
    return tensor


def write_centre(
    shard: Shard, centre: tuple[int, ...], entries: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """What :func:`fill_centre` fills a tensor with, to a shard's memory."""
    local = shard.local.zero_()
    if local.numel() == 0:
        return
    at = tuple(c - s for c, s in zip(centre, shard.start[2:], strict=True))
    if all(0 <= i < n for i, n in zip(at, local.shape[2:], strict=True)):
        out, inputs = (
            torch.arange(start, start + size, device=local.device)
            for start, size in zip(shard.start[:2], local.shape[:2], strict=True)
        )
        place: Any = (slice(None), slice(None), *at)
        local[place] = entries(out.unsqueeze(1), inputs)


def check_convolution(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape; raises ValueError unless it is that of a convolution's weight."""
    if len(shape) not in (3, 4, 5):
        raise ValueError(
            f"Only tensors with 3, 4, or 5 dimensions are supported; the shape is {shape}"
        )
    return shape
