"""Filling tensors: what every initialiser ends in.

Arguments are checked before a key is drawn and before the tensor is touched. A tensor without data
(on the meta device, or fake) stays as it is. Complex tensors are pairs of real numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Concatenate, NamedTuple, ParamSpec, cast

import numpy as np
import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from initfast.errors import ArgumentError, TensorError
from initfast.init.keys import agree_on_key, as_key, draw_key
from initfast.init.placement import Shard, shard_of
from initfast.ops import checks
from initfast.ops.functions import count_write
from initfast.ops.quantile_tables import truncated_normal

P = ParamSpec("P")
_CONTIGUOUS = torch.contiguous_format
_DIMENSIONS = 16  # csrc/binding/sample_arguments.h has room for so many
_FAR = 1e8  # standard deviations; no probability is left beyond that float64 could hold
DTYPES = (*checks.DTYPES, torch.complex64, torch.complex128)


def initialiser(
    function: Callable[Concatenate[Tensor, P], Tensor],
) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Make a function an initialiser: no gradients, and torch's override protocol."""

    @functools.wraps(function)
    def initialise(tensor: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if has_torch_function_variadic(tensor):
            return handle_torch_function(initialise, (tensor,), tensor, *args, **kwargs)
        if torch.is_inference(tensor) and not torch.is_inference_mode_enabled():
            raise ArgumentError(
                f"{function.__name__}: the tensor was made in inference mode; "
                "expected one that may be written to outside it: clone() it first"
            )
        with torch.no_grad():
            return function(tensor, *args, **kwargs)

    return cast(Callable[Concatenate[Tensor, P], Tensor], initialise)


def has_no_data(tensor: Tensor) -> bool:
    """Whether a tensor has a shape only: on the meta device, or fake."""
    from torch._subclasses.fake_tensor import FakeTensor

    return tensor.is_meta or isinstance(tensor, FakeTensor)


def next_key(tensor: Tensor, generator: torch.Generator | None, key: int | None) -> int:
    """The key given, or the generator's next; for a DTensor the same on every rank.

    Raises:
        ArgumentError: both are given, or one does not fit.
    """
    if key is not None:
        if generator is not None:
            raise ArgumentError("both a generator and a key are given; expected one of them")
        return as_key(key)
    return agree_on_key(tensor, draw_key(generator, tensor.device))


def check(tensor: Tensor, name: str) -> None:
    """Raise ArgumentError where a tensor cannot hold random numbers, or cannot be written to."""
    if tensor.dtype not in DTYPES:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise TensorError(f"{name}: the tensor is {tensor.dtype}; expected {expected}")
    check_memory(tensor, name)


def check_memory(tensor: Tensor, name: str) -> None:
    """Raise ArgumentError where a tensor's elements have no memory of their own."""
    if tensor.layout != torch.strided:
        raise TensorError(f"{name}: the tensor is {tensor.layout}; expected a dense one")
    if any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride())):  # noqa: B905
        raise ArgumentError(
            f"{name}: elements of the tensor share memory (strides {tensor.stride()}); "
            "expected one that was not expanded: clone() it first"
        )


def finite(name: str, **numbers: float) -> None:
    """Raise ArgumentError where a number is NaN or infinite."""
    for argument, value in numbers.items():
        if not math.isfinite(value):
            raise ArgumentError(f"{name}: {argument} is {value}; expected a finite number")


def uniform(tensor: Tensor, a: float, b: float, key: int) -> Tensor:
    """Draw from the uniform distribution on [a, b). Arguments are right."""
    dtype = _computed(tensor)
    bits = torch.finfo(dtype).bits
    top = _round(b, dtype)
    if top > _round(a, dtype):
        top = _below(top, dtype)
    # One step of the words is width / 2^bits. Where that is subnormal it would have few bits, or
    # none: so narrow an interval is drawn wider, and made narrow by a power of two.
    lift = 0
    if 0 < b - a < math.ldexp(torch.finfo(dtype).tiny, bits):
        lift = 2 * bits
        a, b, top = (math.ldexp(x, lift) for x in (a, b, top))
    _draw(tensor, Distribution("uniform", None, math.ldexp(b - a, -bits), (a + b) / 2, a, top), key)
    if lift:
        shard_of(tensor).local.data.mul_(math.ldexp(1.0, -lift))
    return tensor


def normal(tensor: Tensor, mean: float, std: float, key: int) -> Tensor:
    """Draw from the normal distribution. Arguments are right.

    A complex number's parts have half the variance each, and the mean is added to the real part.
    """
    table = truncated_normal(-math.inf, math.inf, _computed(tensor)).coefficients
    if tensor.is_complex():
        _draw(tensor, Distribution("symmetric", table, std / math.sqrt(2), 0.0), key)
        if mean != 0:
            shard_of(tensor).local.data.add_(mean)  # the draw has counted the change already
    else:
        _draw(tensor, Distribution("symmetric", table, std, mean), key)
    return tensor


class Bounds(NamedTuple):
    """What a normal distribution is truncated to.

    a, b: the bounds. low, high: the same in standard deviations from the mean.
    """

    a: float
    b: float
    low: float
    high: float

    @classmethod
    def of(cls, mean: float, std: float, a: float, b: float, in_sigma: bool = False) -> Bounds:
        """From either form, the other."""
        mean, std, a, b = map(float, (mean, std, a, b))
        if std == 0:
            return cls(mean, mean, a, b) if in_sigma else cls(a, b, -math.inf, math.inf)
        if in_sigma:
            return cls(mean + a * std, mean + b * std, a, b)
        return cls(a, b, (a - mean) / std, (b - mean) / std)


def truncated(tensor: Tensor, mean: float, std: float, bounds: Bounds, key: int) -> Tensor:
    """Draw from the normal distribution truncated to those bounds. Arguments are right.

    By the inverse of the distribution function: one pass, whatever the bounds.
    """
    a, b, low, high = bounds
    if std == 0 or a == b:
        return constant(tensor, min(max(mean, a), b))
    if high > _FAR and low < high / 2:
        high = math.inf
    if low < -_FAR and high > low / 2:
        low = -math.inf
    if low == math.inf or high == -math.inf:  # what is left is one point
        return constant(tensor, min(max(mean, a), b))
    if (high - low) * max(1.0, abs(low), abs(high)) < 1e-7:  # flat to the last bit of float32
        return uniform(tensor, a, b, key)
    table, shape, origin = truncated_normal(low, high, _computed(tensor))
    location = {"low": a, "high": b, "mean": mean}[origin]
    _draw(tensor, Distribution(shape, table, std, location, a, b), key)
    return tensor


def constant(tensor: Tensor, value: float) -> Tensor:
    """Fill with one number."""
    return tensor.fill_(value)


def write(tensor: Tensor, into: Callable[[Shard], None]) -> Tensor:
    """Let a function write to the elements that this process holds; that is one change.

    Args:
        tensor: the destination, of any layout.
        into: given the Shard, outside autograd, writes to its `local`.
    """
    shard = shard_of(tensor)
    into(shard._replace(local=shard.local.data))
    count_write(tensor)
    if shard.local is not tensor:
        count_write(shard.local)
    return tensor


def _computed(tensor: Tensor) -> torch.dtype:
    """The dtype that a tensor's numbers are computed in."""
    return torch.float64 if tensor.dtype in (torch.float64, torch.complex128) else torch.float32


class Distribution(NamedTuple):
    """What a number is drawn from: :func:`initfast.ops.sample_` says what each part means."""

    shape: str
    table: Tensor | None
    scale: float
    location: float
    low: float = -math.inf
    high: float = math.inf


def _draw(tensor: Tensor, distribution: Distribution, key: int) -> None:
    def into(shard: Shard) -> None:
        local, offset, strides = shard.local, shard.offset, shard.strides
        # The sampler writes through strides: not through conjugate or negative bits, nor too many.
        direct = not (local.is_conj() or local.is_neg()) and local.dim() < _DIMENSIONS
        drawn = local if direct else torch.empty_like(local, memory_format=_CONTIGUOUS)
        out = drawn
        if tensor.is_complex():
            out, offset = torch.view_as_real(drawn), 2 * offset
            strides = (*(2 * s for s in strides), 1)
        torch.ops.initfast.sample_(out, *distribution, key, offset, list(strides))
        if not direct:
            local.copy_(drawn)

    write(tensor, into)


def _round(value: float, dtype: torch.dtype) -> float:
    return value if dtype == torch.float64 else float(np.float32(value))


def _below(value: float, dtype: torch.dtype) -> float:
    """The next number of that dtype downwards."""
    if dtype == torch.float64:
        return math.nextafter(value, -math.inf)
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))
