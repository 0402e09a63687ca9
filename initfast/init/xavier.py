"""Xavier's initialisers, which hold the signal and its gradient alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initfast.init import filling
from initfast.init.drawing import Target
from initfast.init.placement import Place
from initfast.init.variance_scaling import fans, spread


@filling.initialiser
def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    key: int | None = None,
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill with U(-c, c), c = gain √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).

    Args:
        tensor: a weight, at least two dimensions.
        gain: a factor.
        generator: where the key comes from; torch's default CPU generator where None.
        groups: see :func:`fan_in_and_fan_out`.
        transposed, axes: likewise.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.

    Returns:
        tensor.

    Raises:
        ValueError: fewer than two dimensions; and what :func:`uniform_` raises.

    Example:
        >>> w = xavier_uniform_(torch.empty(3, 5), gain=initfast.init.calculate_gain("tanh"))
    """
    target = Target(tensor, generator, key, place, axes)
    return spread(
        target, "uniform", _xavier_std(target, gain, groups, transposed), "xavier_uniform_"
    )


@filling.initialiser
def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    key: int | None = None,
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill with N(0, gain² 2 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12).

    Arguments, result and errors are those of :func:`xavier_uniform_`.

    Example:
        >>> w = xavier_normal_(torch.empty(3, 5))
    """
    target = Target(tensor, generator, key, place, axes)
    return spread(target, "normal", _xavier_std(target, gain, groups, transposed), "xavier_normal_")


def _xavier_std(target: Target, gain: float, groups: int, transposed: bool) -> float:
    fan_in, fan_out = fans(target, groups, transposed)
    if fan_in + fan_out == 0:  # torch raises this kind of error too, for no variance follows
        raise ZeroDivisionError(
            f"the tensor has shape {target.shape}, so that fan_in + fan_out is 0; "
            "expected inputs or outputs"
        )
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))
