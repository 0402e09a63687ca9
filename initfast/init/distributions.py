"""Initialisers that draw every element alike, or draw nothing: see :mod:`initfast.init`."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from initfast.errors import ArgumentError, TensorError
from initfast.init import filling
from initfast.init.drawing import Target, draw
from initfast.init.laws import Bounds
from initfast.init.placement import Place
from initfast.ops.checks import check_extent
from initfast.stats.cut_normal import cut_std


@filling.initialiser
def uniform_(
    tensor: Tensor,
    a: float = 0.0,
    b: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
    place: Place | None = None,
) -> Tensor:
    """Fill with draws from the uniform distribution on [a, b).

    Args:
        tensor: any shape and layout, float or complex (then both parts are drawn).
        a: lower bound.
        b: upper bound, rounded to the tensor's dtype, and never drawn (but where a is b).
        generator: where the key comes from; torch's default CPU generator where None.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.

    Returns:
        tensor.

    Raises:
        ArgumentError (a ValueError and a RuntimeError): a > b, a bound beyond the dtype, an integer
            tensor, a generator on another device.

    Example:
        >>> w = torch.empty(3, 5)
        >>> bool((uniform_(w, -1, 1).abs() <= 1).all())
        True
    """
    filling.check(tensor, "uniform_")
    largest = torch.finfo(tensor.dtype).max
    for name, bound in (("a", a), ("b", b), ("b - a", b - a)):
        if not abs(bound) <= largest:
            raise ArgumentError(f"uniform_: {name} is {bound}; expected a number within ±{largest}")
    if a > b:
        raise ArgumentError(f"uniform_: a is {a} and b is {b}; expected a <= b")
    return draw(Target(tensor, generator, key, place), "uniform", a, b)


@filling.initialiser
def normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    key: int | None = None,
    place: Place | None = None,
) -> Tensor:
    """Fill with draws from the normal distribution N(mean, std²).

    One 32-bit word (64 for float64) goes through the inverse of the distribution function, so that
    a value reaches 6.2 (9.1) standard deviations; its error is under 1e-6 (1e-14) of them.

    Args:
        tensor: any shape and layout, float or complex (then E|w - mean|² = std²).
        mean: mean.
        std: standard deviation, not negative.
        generator: where the key comes from; torch's default CPU generator where None.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.

    Returns:
        tensor.

    Raises:
        ArgumentError (a ValueError and a RuntimeError): std is negative or NaN, an integer tensor,
            a generator on another device.

    Example:
        >>> w = torch.empty(1000, 1000)
        >>> round(normal_(w, std=0.5).std().item(), 2)
        0.5
    """
    filling.check(tensor, "normal_")
    if not std >= 0:
        raise ArgumentError(f"normal_: std is {std}; expected std >= 0")
    return draw(Target(tensor, generator, key, place), "normal", mean, std)


@filling.initialiser
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: torch.Generator | None = None,
    *,
    in_sigma: bool = False,
    std_after_cut: bool = False,
    key: int | None = None,
    place: Place | None = None,
) -> Tensor:
    """Fill with draws from N(mean, std²) given that they lie in [a, b].

    Through the inverse of the distribution function: one pass, nothing redrawn, right for any
    a <= b, far tails and infinite bounds included.

    Args:
        tensor: any shape and layout, float.
        mean: mean before truncation.
        std: standard deviation before truncation, not negative; 0 gives mean, or the nearest bound.
        a: lower bound, inclusive, rounded to the tensor's dtype.
        b: upper bound, likewise.
        generator: where the key comes from; torch's default CPU generator where None.
        in_sigma: whether a and b count in standard deviations from the mean. (They are absolute in
            torch, where std=0.02 and [-2, 2] truncate nothing.)
        std_after_cut: whether std is that of what remains between the bounds, not of the normal
            before (as in JAX's truncated variance scaling): the normal is made wider. The bounds
            then count in standard deviations of that normal, so in_sigma must be set, and lie alike
            on both sides of the mean.
        key: the 64 bits that decide every value, in place of a generator.
        place: where a shard that is no DTensor lies in its global tensor: see :class:`Place`.

    Returns:
        tensor.

    Raises:
        ArgumentError (a ValueError and a RuntimeError): a > b or NaN, std negative, NaN or
            infinite, a tensor of integers or complex numbers, a generator on another device.

    Warns:
        UserWarning: the mean lies more than two standard deviations outside [a, b], as torch does.

    Example:
        >>> w = trunc_normal_(torch.empty(1000), std=0.02, in_sigma=True)
        >>> bool(w.abs().max() <= 0.04)
        True
        >>> w = trunc_normal_(torch.empty(10**6), std=0.02, in_sigma=True, std_after_cut=True)
        >>> round(w.std().item(), 4)  # 0.0176 without
        0.02
    """
    filling.check(tensor, "trunc_normal_")
    if tensor.is_complex():
        raise TensorError(f"trunc_normal_: the tensor is {tensor.dtype}; expected a real one")
    filling.finite("trunc_normal_", mean=mean, std=std)
    if std < 0:
        raise ArgumentError(f"trunc_normal_: std is {std}; expected std >= 0")
    if not a <= b or a == math.inf or b == -math.inf:
        raise ArgumentError(f"trunc_normal_: a is {a} and b is {b}; expected an interval")
    if std_after_cut:
        if not in_sigma or a != -b or not b > 0:
            raise ArgumentError(
                f"trunc_normal_: std_after_cut with a {a}, b {b} and in_sigma {in_sigma}; expected "
                "in_sigma=True and bounds that are as far on both sides"
            )
        std /= cut_std(b)
    bounds = Bounds.of(mean, std, a, b, in_sigma)
    a, b = bounds.a, bounds.b
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in trunc_normal_: few draws of the untruncated "
            f"distribution would lie there (mean {mean}, std {std}, [{a}, {b}])",
            stacklevel=3,
        )
    return draw(
        Target(tensor, generator, key, place), "truncated", float(mean), float(std), *bounds
    )


@filling.initialiser
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one number.

    Args:
        tensor: any shape, layout and dtype.
        val: the number.

    Returns:
        tensor.

    Example:
        >>> constant_(torch.empty(2), 0.5).tolist()
        [0.5, 0.5]
    """
    return filling.constant(tensor, "constant_", val)


@filling.initialiser
def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones.

    Args:
        tensor: any shape, layout and dtype.

    Returns:
        tensor.

    Example:
        >>> ones_(torch.empty(2)).tolist()
        [1.0, 1.0]
    """
    return filling.constant(tensor, "ones_", 1.0)


@filling.initialiser
def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros.

    Args:
        tensor: any shape, layout and dtype.

    Returns:
        tensor.

    Example:
        >>> zeros_(torch.empty(2)).tolist()
        [0.0, 0.0]
    """
    check_extent(tensor, "zeros_: the tensor")
    return tensor.zero_()
