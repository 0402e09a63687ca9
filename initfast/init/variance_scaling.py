"""Initialisers that scale their draws by the tensor's fans: see :mod:`initfast.init`."""

from __future__ import annotations

import math
import warnings
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from initfast.errors import ArgumentError
from initfast.init import filling
from initfast.init.drawing import draw
from initfast.init.fans import (
    FAN_MODES,
    AnyFanMode,
    FanMode,
    Nonlinearity,
    calculate_gain,
    fan_in_and_fan_out,
)
from initfast.init.laws import Bounds

Distribution: TypeAlias = Literal["uniform", "normal", "truncated_normal"]
"""What :func:`variance_scaling_` draws from."""

TRUNCATED_STD = 0.87962566103423978
"""The standard deviation of the standard normal distribution truncated to [-2, 2]."""


@filling.initialiser
def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    key: int | None = None,
) -> Tensor:
    """Fill with U(-c, c), c = gain √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).

    Args:
        tensor: a weight, at least two dimensions.
        gain: a factor.
        generator: where the key comes from; torch's default CPU generator where None.
        groups: see :func:`fan_in_and_fan_out`.
        transposed: likewise.
        key: the 64 bits that decide every value, in place of a generator.

    Returns:
        tensor.

    Raises:
        ValueError: fewer than two dimensions; and what :func:`uniform_` raises.

    Example:
        >>> w = xavier_uniform_(torch.empty(3, 5), gain=calculate_gain("tanh"))
    """
    std = _xavier_std(tensor, gain, groups, transposed)
    return _spread(tensor, "uniform", std, "xavier_uniform_", generator, key)


@filling.initialiser
def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    key: int | None = None,
) -> Tensor:
    """Fill with N(0, gain² 2 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12).

    Arguments, result and errors are those of :func:`xavier_uniform_`.

    Example:
        >>> w = xavier_normal_(torch.empty(3, 5))
    """
    std = _xavier_std(tensor, gain, groups, transposed)
    return _spread(tensor, "normal", std, "xavier_normal_", generator, key)


@filling.initialiser
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: torch.Generator | None = None,
    *,
    gain: float | None = None,
    groups: int = 1,
    transposed: bool = False,
    key: int | None = None,
) -> Tensor:
    """Fill with U(-c, c), c = gain √(3 / fan) (He et al. 2015, eq. 10 and 14).

    Args:
        tensor: a weight, at least two dimensions.
        a: leaky_relu's negative slope.
        mode: "fan_in" keeps the forward signal's variance, "fan_out" the gradient's.
        nonlinearity: the activation that follows; see :func:`calculate_gain`.
        gain: in the place of nonlinearity's: any, as :func:`initfast.theory.gain` of a function.
        generator: where the key comes from; torch's default CPU generator where None.
        groups: see :func:`fan_in_and_fan_out`.
        transposed: likewise.
        key: the 64 bits that decide every value, in place of a generator.

    Returns:
        tensor.

    Raises:
        ValueError: fewer than two dimensions, no such mode or activation, a negative gain; and what
            :func:`uniform_` raises.

    Warns:
        UserWarning: the tensor has no elements.

    Example:
        >>> w = kaiming_uniform_(torch.empty(3, 5), nonlinearity="relu")
        >>> w = kaiming_uniform_(torch.empty(3, 5), gain=initfast.theory.gain(nn.ELU(0.5)))
    """
    if 0 in tensor.shape:
        return _nothing_to_do(tensor)
    std = _kaiming_std(tensor, a, mode, nonlinearity, gain, groups, transposed)
    return _spread(tensor, "uniform", std, "kaiming_uniform_", generator, key)


@filling.initialiser
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: torch.Generator | None = None,
    *,
    gain: float | None = None,
    groups: int = 1,
    transposed: bool = False,
    key: int | None = None,
) -> Tensor:
    """Fill with N(0, gain² / fan) (He et al. 2015, eq. 10 and 14).

    Arguments, result, errors and warnings are those of :func:`kaiming_uniform_`.

    Example:
        >>> w = kaiming_normal_(torch.empty(3, 5), mode="fan_out", nonlinearity="relu")
    """
    if 0 in tensor.shape:
        return _nothing_to_do(tensor)
    std = _kaiming_std(tensor, a, mode, nonlinearity, gain, groups, transposed)
    return _spread(tensor, "normal", std, "kaiming_normal_", generator, key)


@filling.initialiser
def lecun_uniform_(
    tensor: Tensor, generator: torch.Generator | None = None, *, key: int | None = None
) -> Tensor:
    """Fill with U(-c, c), c = √(3 / fan_in) (LeCun et al. 1998, eq. 16).

    Arguments, result and errors are those of :func:`variance_scaling_`.

    Example:
        >>> w = lecun_uniform_(torch.empty(3, 5))
    """
    return _scaled(tensor, 1.0, "fan_in", "uniform", generator, key)


@filling.initialiser
def lecun_normal_(
    tensor: Tensor, generator: torch.Generator | None = None, *, key: int | None = None
) -> Tensor:
    """Fill with a normal of variance 1 / fan_in, truncated at two standard deviations.

    The initialiser of self-normalising networks (Klambauer et al. 2017), truncated as in Keras and
    JAX. Arguments, result and errors are those of :func:`variance_scaling_`.

    Example:
        >>> w = lecun_normal_(torch.empty(3, 5))
    """
    return _scaled(tensor, 1.0, "fan_in", "truncated_normal", generator, key)


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
        transposed: likewise.
        key: the 64 bits that decide every value, in place of a generator.

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
    return _scaled(tensor, scale, mode, distribution, generator, key, groups, transposed)


def _scaled(
    tensor: Tensor,
    scale: float,
    mode: str,
    distribution: str,
    generator: torch.Generator | None,
    key: int | None,
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
    if 0 in tensor.shape:
        return _nothing_to_do(tensor, stacklevel=5)
    fan = FAN_MODES[mode](*fan_in_and_fan_out(tensor, groups, transposed))
    std = math.sqrt(scale / fan)
    return _spread(tensor, distribution, std, "variance_scaling_", generator, key)


def _xavier_std(tensor: Tensor, gain: float, groups: int, transposed: bool) -> float:
    fan_in, fan_out = fan_in_and_fan_out(tensor, groups, transposed)
    if fan_in + fan_out == 0:  # torch raises this kind of error too, for no variance follows
        raise ZeroDivisionError(
            f"the tensor has shape {tuple(tensor.shape)}, so that fan_in + fan_out is 0; "
            "expected inputs or outputs"
        )
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))


def _kaiming_std(
    tensor: Tensor,
    a: float,
    mode: str,
    nonlinearity: Nonlinearity,
    gain: float | None,
    groups: int,
    transposed: bool,
) -> float:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan = FAN_MODES[mode](*fan_in_and_fan_out(tensor, groups, transposed))
    return (calculate_gain(nonlinearity, a) if gain is None else gain) / math.sqrt(fan)


def _nothing_to_do(tensor: Tensor, stacklevel: int = 4) -> Tensor:
    warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=stacklevel)
    return tensor


def _spread(
    tensor: Tensor,
    distribution: str,
    std: float,
    name: str,
    generator: torch.Generator | None,
    key: int | None,
) -> Tensor:
    """Draw from a distribution about zero with that standard deviation."""
    filling.check(tensor, name)
    filling.finite(name, std=std)
    if std < 0:
        raise ArgumentError(f"{name}: the standard deviation is {std}; expected it not negative")
    if distribution == "uniform":
        bound = math.sqrt(3.0) * std
        return draw(tensor, "uniform", generator, key, -bound, bound)
    if distribution == "normal":
        return draw(tensor, "normal", generator, key, 0.0, std)
    std /= TRUNCATED_STD
    bounds = Bounds.of(0.0, std, -2.0, 2.0, in_sigma=True)
    return draw(tensor, "truncated", generator, key, 0.0, std, *bounds)
