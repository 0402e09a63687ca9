"""Sines as activations, y = sin(ω z): which layers they follow, and their ω."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from initfast.ops.dispatch import kernels_of
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.torch_state import transforms

OMEGA = 30.0
"""That of Sitzmann et al. 2020, where none is said."""

_MODULES = re.compile(r"sin(e|us)?(act|activation)?", re.IGNORECASE)
_LAYERS = re.compile(r"sin(e|us)?_?(layer|block|linear|dense)|siren_?(layer|block|linear)", re.I)
_NAMES = ("omega_0", "omega0", "omega", "w0", "w_0", "w", "freq", "frequency")
_FUNCTIONS = (torch.sin, torch.sin_, Tensor.sin, Tensor.sin_)
_PROBES = (1e-3, 2e-3, 0.05)
_SAME = 1e-4


class SineCalls(TorchFunctionMode):
    """Keeps what sines are called with as a net runs.

    Attributes:
        arguments: the moments of each sine's argument, in the order of the calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arguments: list[Moments] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function; of a sine, measure what it takes first."""
        if func in _FUNCTIONS and args and _is_measured(args[0]):
            with torch._C.DisableTorchFunction():
                self.arguments.append(Moments.of(args[0]))
        return func(*args, **(kwargs or {}))

    def after(self, layer: Layer) -> float:
        """The ω of the sine that takes a layer's output; 0 where none does.

        An argument that is ω times an output has its extremes and its spread times ω.
        """
        y = layer.post
        if not y.std > 0:
            return 0.0
        for z in self.arguments:
            omega = z.std / y.std
            if z.count == y.count and all(map(_is_times(omega), (z.min, z.max), (y.min, y.max))):
                return omega
        return 0.0


def _is_measured(x: Any) -> bool:
    """Whether x has values that can be read: within a transform, as of torch.func, it has none."""
    if not isinstance(x, Tensor) or transforms() is not None:
        return False
    return x.numel() > 1 and kernels_of(x) is not None


def _is_times(omega: float) -> Callable[[float, float], bool]:
    return lambda a, b: math.isclose(a, omega * b, rel_tol=_SAME)


def of_module(module: nn.Module) -> float:
    """The ω of a module without parameters that is called as a sine is and computes one; else 0.

    Example:
        >>> class Sine(nn.Module):
        ...     def forward(self, x):
        ...         return torch.sin(30 * x)
        >>> round(of_module(Sine()), 3), of_module(nn.Tanh())
        (30.0, 0.0)
    """
    if not _MODULES.fullmatch(type(module).__name__) or any(True for _ in module.parameters()):
        return 0.0
    x = torch.tensor(_PROBES, dtype=torch.float64)
    try:  # the forward itself: hooks are no part of the function, and may do anything
        with torch.no_grad():
            y = module.forward(x)
        if not isinstance(y, Tensor) or y.shape != x.shape or not -1 < y[0] < 1:
            return 0.0
        omega = math.asin(float(y[0])) / _PROBES[0]
        return omega if torch.allclose(y.double(), torch.sin(omega * x), atol=1e-6) else 0.0
    except Exception:  # it wants another input, or more of them
        return 0.0


def of_layer(parent: nn.Module) -> float:
    """The ω of a module that is one linear layer and a sine, by its type's name; else 0."""
    if not _LAYERS.fullmatch(type(parent).__name__):
        return 0.0
    found = (getattr(parent, name, None) for name in _NAMES)
    return next((float(w) for w in found if isinstance(w, (int, float)) and w), OMEGA)
