"""Rescaled: what lsuv_() has done to each layer, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from initfast.repair.initialized import Left
from initfast.stats.text import number, shown


class Scaled(NamedTuple):
    """A layer whose weight, and bias, was scaled.

    name: of the layer. before: the std of its output. factor: what its weight was multiplied by.
    """

    name: str
    before: float
    factor: float


@dataclass(frozen=True)
class Rescaled:
    """What :func:`initfast.lsuv_` has done, to print.

    Attributes:
        scaled: the layers that were scaled, in the order of the forward.
        kept: those whose output had a std within the tolerance, with it.
        left: those that were not scaled, and why.
        stds: of each layer's output as it is now, in the order of the forward.
        omegas: for each matrix that ends a residual branch of a transformer, in the order of the
            forward, what Admin multiplies the skip connection by where that branch is added: the
            root of 1 + Σ Var(f) over the branches f before it in its stack (Liu et al. 2020,
            "Understanding the difficulty of training transformers", section 4.2). A net whose norm
            follows the sum, and that has such factors, starts from these.
    """

    scaled: list[Scaled] = field(default_factory=list)
    kept: list[tuple[str, float]] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    stds: dict[str, float] = field(default_factory=dict)
    omegas: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{s.name}: std {number(s.before)}, weight times {s.factor:.4g}" for s in self.scaled
        ]
        lines += [f"{name}: std {number(std)}, kept" for name, std in self.kept]
        lines += [f"left: {item.name}: {item.reason}" for item in self.left]
        return shown("\n".join(lines))
