"""Initialisers that scale their draws by the tensor's fans: see :mod:`initfast.init`."""

from __future__ import annotations

import math
import warnings
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from initfast.errors import ArgumentError
from initfast.init import filling
from initfast.init.drawing import Target, draw
from initfast.init.fans import FAN_MODES, AnyFanMode, fans_of
from initfast.init.laws import Bounds
from initfast.init.placement import Place

TRUNCATED_STD = 0.87962566103423978
"""The standard deviation of the standard normal distribution truncated to [-2, 2]."""


Distribution: TypeAlias = Literal["uniform", "normal", "truncated_normal"]
"""What :func:`variance_scaling_` draws from."""


@filling.initialiser
def lecun_uniform_(
    tensor: Tensor,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill with U(-c, c), c = √(3 / fan_in) (LeCun et al. 1998, eq. 16).

    Arguments, result and errors are those of :func:`variance_scaling_`.

    Example:
        >>> w = lecun_uniform_(torch.empty(3, 5))
    """
    return _scaled(Target(tensor, generator, key, place, axes), 1.0, "fan_in", "uniform")


@filling.initialiser
def lecun_normal_(
    tensor: Tensor,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill with a normal of variance 1 / fan_in, truncated at two standard deviations.

    The initialiser of self-normalising networks (Klambauer et al. 2017), truncated as in Keras and
    JAX. Arguments, result and errors are those of :func:`variance_scaling_`.

    Example:
        >>> w = lecun_normal_(torch.empty(3, 5))
    """
    return _scaled(Target(tensor, generator, key, place, axes), 1.0, "fan_in", "truncated_normal")


@filling.initialiser
def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: AnyFanMode = "fan_in",
    distribution: Distribution = "truncated_normal",
    generator: torch.Generator | None = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    key: int | None = None,
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill with numbers of mean 0 and variance scale / fan.

    Args:
        tensor: a weight, at least two dimensions.
        scale: a factor on the variance, not negative.
        mode: "fan_in", "fan_out", "fan_avg" or "fan_geo_avg" (√(fan_in fan_out)).
        distribution: "uniform", "normal" or "truncated_normal" (at two standard deviations of the
            normal, which is widened by 1 / 0.8796 so that the variance is as stated).
        generator: where the key comes from; torch's default CPU generator where None.
        groups: see :func:`fan_in_and_fan_out`.
        transposed, axes: likewise.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.

    Returns:
        tensor.

    Raises:
        ValueError: fewer than two dimensions, a negative scale, no such mode or distribution; and
            what :func:`uniform_` raises.

    Warns:
        UserWarning: the tensor has no elements.

    Example:
        >>> w = variance_scaling_(torch.empty(3, 5), 2.0, "fan_avg", "uniform")
    """
    target = Target(tensor, generator, key, place, axes)
    return _scaled(target, scale, mode, distribution, groups, transposed)


def _scaled(
    target: Target,
    scale: float,
    mode: str,
    distribution: str,
    groups: int = 1,
    transposed: bool = False,
) -> Tensor:
    if mode not in FAN_MODES:
        raise ArgumentError(f"mode is {mode!r}; expected one of {', '.join(FAN_MODES)}")
    if not (scale >= 0 and math.isfinite(scale)):
        raise ArgumentError(f"scale is {scale}; expected a finite number, not negative")
    if distribution not in ("uniform", "normal", "truncated_normal"):
        raise ArgumentError(
            f"distribution is {distribution!r}; expected uniform, normal or truncated_normal"
        )
    if 0 in target.shape:
        return nothing_to_do(target.tensor)
    fan = FAN_MODES[mode](*fans(target, groups, transposed))
    return spread(target, distribution, math.sqrt(scale / fan), "variance_scaling_")


def fans(target: Target, groups: int, transposed: bool) -> tuple[int, int]:
    """fan_in and fan_out of a target's weights."""
    return fans_of(target.shape, groups, transposed, target.axes)


def nothing_to_do(tensor: Tensor) -> Tensor:
    """Warn, as torch does, that a tensor has no elements."""
    warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=5)
    return tensor


def spread(target: Target, distribution: str, std: float, name: str) -> Tensor:
    """Draw from a distribution about zero with that standard deviation."""
    filling.check(target.tensor, name)
    filling.finite(name, std=std)
    if std < 0:
        raise ArgumentError(f"{name}: the standard deviation is {std}; expected it not negative")
    if distribution == "uniform":
        bound = math.sqrt(3.0) * std
        return draw(target, "uniform", -bound, bound)
    if distribution == "normal":
        return draw(target, "normal", 0.0, std)
    std /= TRUNCATED_STD
    return draw(target, "truncated", 0.0, std, *Bounds.of(0.0, std, -2.0, 2.0, in_sigma=True))
