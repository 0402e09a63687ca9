"""Law: what a scheme draws for one parameter."""

from __future__ import annotations

import math
from typing import NamedTuple

from initfast.init.variance_scaling import TRUNCATED_STD
from initfast.stats.cut_normal import cut_kurtosis, cut_std


class Law(NamedTuple):
    """The distribution of a parameter's elements.

    family: "normal", "truncated", "uniform", "constant", "orthogonal", or "packed". scale: the std
    of a normal distribution, before it is cut, or of a uniform one; the value of a constant; the
    gain of an orthogonal matrix. cut: where a truncated one is, in standard deviations. why: the
    rule, as "√(2 / fan_in), relu follows". parts: the laws of the parts, equally large, that are
    packed in the parameter along its outputs.
    """

    family: str
    scale: float
    cut: float = math.inf
    why: str = ""
    parts: tuple[Law, ...] = ()

    def std(self, rows: int = 1, columns: int = 1) -> float:
        """The standard deviation of the elements.

        Args:
            rows, columns: of one part of the weight, as a matrix; orthogonal ones need them.

        Example:
            >>> round(truncated(0.02, 3).std(), 8), orthogonal(1.0).std(64, 16)
            (0.01973157, 0.125)
        """
        if self.family == "truncated":
            return self.scale * cut_std(self.cut)
        if self.family == "orthogonal":
            return self.scale / math.sqrt(max(rows, columns))
        if self.family == "packed":
            squares = [part.std(rows, columns) ** 2 for part in self.parts]
            return math.sqrt(sum(squares) / len(squares))
        return 0.0 if self.family == "constant" else self.scale

    @property
    def kurtosis(self) -> float:
        """The fourth moment over the squared second: 3 for a normal, 1.8 for a uniform, or NaN."""
        if self.family == "truncated":
            return cut_kurtosis(self.cut)
        known = {"normal": 3.0, "orthogonal": 3.0, "uniform": 1.8}
        return known.get(self.family, math.nan)

    def __str__(self) -> str:
        if self.family == "truncated":
            return f"normal of std {self.scale:.4g} cut at {self.cut:g} sigma"
        if self.family == "packed":
            return " | ".join(dict.fromkeys(map(str, self.parts)))
        names = {"constant": f"{self.scale:g}", "orthogonal": f"orthogonal times {self.scale:.4g}"}
        return names.get(self.family, f"{self.family} of std {self.scale:.4g}")


def normal(std: float, why: str = "") -> Law:
    """N(0, std²)."""
    return Law("normal", std, why=why)


def truncated(std: float, cut: float, why: str = "") -> Law:
    """N(0, std²) given that it lies within so many of its standard deviations."""
    return Law("truncated", std, cut, why)


def truncated_to(std: float, why: str = "") -> Law:
    """A normal cut at 2 sigma, widened so that std is what remains, as JAX and Keras do it."""
    return Law("truncated", std / TRUNCATED_STD, 2.0, why)


def uniform(std: float, why: str = "") -> Law:
    """U(-√3 std, √3 std)."""
    return Law("uniform", std, why=why)


def constant(value: float, why: str = "") -> Law:
    """One number."""
    return Law("constant", value, why=why)


def orthogonal(gain: float = 1.0, why: str = "") -> Law:
    """A (semi-)orthogonal matrix times the gain (Saxe et al. 2014)."""
    return Law("orthogonal", gain, why=why)


def packed(*parts: Law) -> Law:
    """A law for each part of a packed weight or bias."""
    return Law("packed", 1.0, why=", ".join(dict.fromkeys(p.why for p in parts)), parts=parts)
