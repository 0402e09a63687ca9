"""One call of a function whose result is not finite, and how its reason is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from initfast.stats.text import dtype_name, number

WIDER = "keep the scale down before it, or use a wider dtype there"
BOUND = "bound what goes into it: clamp it, or take its maximum off first (as logsumexp does)"
SMALLER = "keep the scale in the layers before it, or use a wider dtype"
OVERFLOWS = frozenset((WIDER, BOUND, SMALLER))
"""What is advised where values are too large: what made them so is the cause."""
NO_INFINITY = "keep the infinities out, or let a large finite number stand in their place"


class FunctionCall(NamedTuple):
    """One call of a function.

    Attributes:
        name: torch's, without underscores and dtypes: "log", "div", "matmul".
        args, kwargs: its arguments as they were before the call.
        output: the result that is not finite.
    """

    name: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    output: Tensor

    @property
    def operands(self) -> list[Any]:
        """The tensors and numbers among its positional arguments."""
        return [a for a in self.args if isinstance(a, (Tensor, int, float))]

    @property
    def input(self) -> Tensor:
        """Its first tensor, in float64."""
        first: Tensor = next(a for a in self.args if isinstance(a, Tensor))
        return first.detach().double()

    @property
    def limit(self) -> str:
        """The largest number of the output's dtype, in words."""
        dtype = self.output.dtype
        return f"{dtype_name(dtype)}'s {number(torch.finfo(dtype).max)}"


class Reason(NamedTuple):
    """Why, and what to do; each may be empty."""

    why: str = ""
    advice: str = ""


def largest(t: Tensor) -> float:
    """The largest finite magnitude; 0 where there is none."""
    t = t.detach().double()
    return t[t.isfinite()].abs().max().item() if t.isfinite().any() else 0.0


def apart(x: float, line: float) -> str:
    """A number, with as many digits as tell it from another one."""
    digits = range(4, 18)
    return next((f"{x:#.{n}g}" for n in digits if f"{x:.{n}g}" != f"{line:.{n}g}"), number(x))


def spelled(x: float, follows: bool = False) -> str:
    """A number, infinities too; one that follows a sign is in parentheses if negative."""
    text = "inf" if x == math.inf else "-inf" if x == -math.inf else number(x)
    return f"({text})" if follows and x < 0 else text


def values(count: int) -> str:
    """So many values, in words."""
    return "1 value" if count == 1 else f"{count} values"


def part(flags: Tensor, what: str = "values") -> str:
    """How many of these are flagged, in words."""
    return f"{int(flags.sum())} of {flags.numel()} {what}"
