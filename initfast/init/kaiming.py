"""Kaiming's initialisers, which reckon with the activation that follows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initfast.init import filling
from initfast.init.drawing import Target
from initfast.init.fans import FAN_MODES, FanMode, Nonlinearity, calculate_gain
from initfast.init.placement import Place
from initfast.init.variance_scaling import fans, nothing_to_do, spread


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
    place: Place | None = None,
    axes: str | None = None,
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
        transposed, axes: likewise.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.

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
    target = Target(tensor, generator, key, place, axes)
    return _kaiming(target, "uniform", a, mode, nonlinearity, gain, groups, transposed)


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
    place: Place | None = None,
    axes: str | None = None,
) -> Tensor:
    """Fill with N(0, gain² / fan) (He et al. 2015, eq. 10 and 14).

    Arguments, result, errors and warnings are those of :func:`kaiming_uniform_`.

    Example:
        >>> w = kaiming_normal_(torch.empty(3, 5), mode="fan_out", nonlinearity="relu")
    """
    target = Target(tensor, generator, key, place, axes)
    return _kaiming(target, "normal", a, mode, nonlinearity, gain, groups, transposed)


def _kaiming(
    target: Target,
    distribution: str,
    a: float,
    mode: str,
    nonlinearity: Nonlinearity,
    gain: float | None,
    groups: int,
    transposed: bool,
) -> Tensor:
    if 0 in target.shape:
        return nothing_to_do(target.tensor)
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan = FAN_MODES[mode](*fans(target, groups, transposed))
    std = (calculate_gain(nonlinearity, a) if gain is None else gain) / math.sqrt(fan)
    return spread(target, distribution, std, f"kaiming_{distribution}_")
