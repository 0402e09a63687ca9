"""Filling tensors: what every initialiser begins with, and what those that draw nothing end in.

Arguments are checked before a key is drawn and before the tensor is touched. A tensor without data
(on the meta device, or fake) stays as it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Concatenate, ParamSpec, cast

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_variadic

from initfast.errors import ArgumentError, TensorError, kind_of
from initfast.init.placement import check_not_summed
from initfast.ops.checks import DTYPES as REAL_DTYPES
from initfast.ops.checks import check_extent, elements_overlap

P = ParamSpec("P")
DTYPES = (*REAL_DTYPES, torch.complex32, torch.complex64, torch.complex128)
_BY_ELEMENT = ("uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_")
"""Initialisers that ask nothing of a tensor's shape."""


def initialiser(
    function: Callable[Concatenate[Tensor, P], Tensor],
) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Make a function an initialiser: no gradients, and torch's override protocol."""

    @functools.wraps(function)
    def initialise(tensor: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if has_torch_function_variadic(tensor):
            return handle_torch_function(initialise, (tensor,), tensor, *args, **kwargs)
        if not isinstance(tensor, Tensor):
            raise TypeError(_no_tensor(function.__name__, tensor))
        if (
            not torch.compiler.is_compiling()
            and torch.is_inference(tensor)
            and not torch.is_inference_mode_enabled()
        ):
            raise ArgumentError(
                f"{function.__name__}: the tensor was made in inference mode; "
                "expected one that may be written to outside it: clone() it first"
            )
        with torch.no_grad():
            if not tensor.is_nested:
                return function(tensor, *args, **kwargs)
            if function.__name__ not in _BY_ELEMENT:
                raise TensorError(
                    f"{function.__name__}: the tensor is nested; expected one of a single shape, "
                    "such as a component that unbind() gives"
                )
            function(tensor.values(), *args, **kwargs)
            return tensor

    return cast(Callable[Concatenate[Tensor, P], Tensor], initialise)


def _no_tensor(name: str, given: object) -> str:
    """What is wrong with what an initialiser was given in the place of a tensor."""
    expected = "a tensor"
    if isinstance(given, nn.Module):
        own = [parameter for parameter, _ in given.named_parameters()]
        expected = f"one of its parameters, such as .{own[0]}" if own else "a tensor: it has none"
        expected += "; initfast.initialize_ takes a whole net"
    return f"{name}: tensor is {kind_of(given)}; expected {expected}"


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
    if not tensor.is_contiguous() and elements_overlap(tensor):
        raise ArgumentError(
            f"{name}: elements of the tensor share memory (shape {tuple(tensor.shape)}, strides "
            f"{tensor.stride()}); expected one that is no expanded or overlapping view: clone() it "
            "first"
        )
    check_extent(tensor, f"{name}: the tensor")


def finite(name: str, **numbers: float) -> None:
    """Raise ArgumentError where a number is NaN or infinite."""
    for argument, value in numbers.items():
        if not math.isfinite(value):
            raise ArgumentError(f"{name}: {argument} is {value}; expected a finite number")


def constant(tensor: Tensor, name: str, value: float) -> Tensor:
    """Fill with one number."""
    check_not_summed(tensor, name)
    check_extent(tensor, f"{name}: the tensor")
    return tensor.fill_(value)
