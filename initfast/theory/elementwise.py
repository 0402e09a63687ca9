"""What theory takes for an activation: a name, a module or a callable, read and checked once."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from initfast.errors import ArgumentError
from initfast.ops.activations import ACTIVATIONS

Array: TypeAlias = npt.NDArray[np.float64]

_PROBES = np.concatenate([np.linspace(-3.1, 2.9, 13), [0.013, -0.47, 1.7]])
"""Points in no order, so that a sum over them, a sort or a softmax shows."""


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """A thousand elements take microseconds, a second thread on a busy machine milliseconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Elementwise:
    """A function of one real number, on float64 arrays.

    Attributes:
        name: what errors call it.
    """

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        self.name = name
        self._function = function

    def __call__(self, x: Array) -> Array:
        """The function of each element."""
        with torch.no_grad(), _one_thread():
            y = self._function(torch.from_numpy(x.ravel().copy()))  # which it may overwrite
        return y.numpy().reshape(x.shape)

    def check(self) -> None:
        """Raise ArgumentError unless it is elementwise, deterministic and float64."""
        x = torch.from_numpy(_PROBES.copy())
        y = self._probe(x)
        expected = "expected a function that takes each element alone"
        if not isinstance(y, Tensor):
            raise ArgumentError(f"{self.name} returned {type(y).__name__}; expected a tensor")
        if y.shape != x.shape:
            raise ArgumentError(
                f"{self.name} made {list(y.shape)} of a tensor of {list(x.shape)}; {expected}"
            )
        if y.dtype != torch.float64 or y.device != x.device:
            raise ArgumentError(
                f"{self.name} returned {y.dtype} on {y.device} for torch.float64 on the CPU; "
                "expected the dtype and the device of its input"
            )
        if not torch.equal(torch.nan_to_num(self._probe(x)), torch.nan_to_num(y)):
            raise ArgumentError(
                f"{self.name} gave two answers for one input; expected a deterministic function: "
                "of a module as dropout or RReLU, the one after eval()"
            )
        some = self._probe(x.flip(0)[::2])  # another order, without half of them
        # Vectorised and scalar code may differ in their last digits.
        if not torch.allclose(some, y.flip(0)[::2], rtol=1e-9, atol=1e-12, equal_nan=True):
            raise ArgumentError(
                f"{self.name} gives an element another value in other company; {expected}"
            )

    def _probe(self, x: Tensor) -> Any:
        try:
            with torch.no_grad():
                y = self._function(x.clone())
        except Exception as error:
            raise ArgumentError(
                f"{self.name} fails on a float64 tensor of {list(x.shape)}: "
                f"{type(error).__name__}: {error}; expected a function of tensors of any shape"
            ) from error
        return y.clone() if isinstance(y, Tensor) else y


Activation: TypeAlias = str | nn.Module | Callable[[Tensor], Tensor] | Elementwise
"""A name in :data:`initfast.ops.activations.ACTIVATIONS` with torch's parameters, an elementwise
module, or a function of a float64 tensor."""


def elementwise(f: Activation) -> Elementwise:
    """The function that an activation is.

    A module is copied, in float64 and on the CPU, as it is now.

    Raises:
        ArgumentError: it is unknown, no function, or one that :meth:`Elementwise.check` refuses.

    Example:
        >>> elementwise("relu")(np.array([-1.0, 2.0]))
        array([0., 2.])
    """
    if isinstance(f, Elementwise):
        return f
    if isinstance(f, str):
        return _named(f)
    if isinstance(f, nn.Module):
        found = Elementwise(type(f).__name__, copy.deepcopy(f).to("cpu", torch.float64))
    elif callable(f):
        found = Elementwise(getattr(f, "__name__", repr(f)), f)
    else:
        raise ArgumentError(
            f"the activation is {f!r}; expected the name of one, a module or a function of a tensor"
        )
    found.check()
    return found


@cache
def _named(name: str) -> Elementwise:
    if name not in ACTIVATIONS:
        raise ArgumentError(
            f"unknown activation {name!r}; expected one of {', '.join(ACTIVATIONS)}, "
            "a module or a function of a tensor"
        )
    act = ACTIVATIONS[name]
    return Elementwise(name, lambda z: act.value(z, *act.defaults))
