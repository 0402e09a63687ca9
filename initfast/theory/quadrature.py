"""Expectations over a normal variable, to rounding, of functions with kinks and jumps too.

Gauss-Legendre quadrature on the cells of :mod:`initfast.theory.mesh`, cut once more where the
density asks for it, is exact to rounding whatever the variance (Trefethen 2013, "Approximation
Theory and Approximation Practice", ch. 19). The same nodes give the slope, so that no derivative is
asked of the function.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from initfast.errors import ArgumentError
from initfast.theory.elementwise import Activation, Array
from initfast.theory.legendre import POINTS, WEIGHTS, slopes
from initfast.theory.mesh import MOST_BISECTIONS, Cells, Mesh, mesh

REACH = 32.0
"""Standard deviations: beyond, the density is below 1e-220."""

_NEGLIGIBLE = 1e-8  # what the cells beside a singular point may add to a finite expectation


def density(z: Array) -> Array:
    """Of a standard normal variable."""
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


class Expectations:
    """Expectations of one function of a normal variable, from one set of nodes.

    Args:
        mesh: of the function.
        mean, std: of the normal variable; std is above 0.

    Attributes:
        edges: the cells' ends, in standard deviations from the mean.
        z: the nodes in standard deviations from the mean, cells by nodes.
        y: the function there.
        weight: the normal probability that each node stands for.
    """

    def __init__(self, mesh: Mesh, mean: float = 0.0, std: float = 1.0) -> None:
        self.mesh, self.mean, self.std = mesh, mean, std
        cells = mesh.cells(abs(mean) + REACH * std)
        self.edges = _merged(cells, mean, std)
        self._half = np.diff(self.edges)[:, None] / 2
        self.z = (self.edges[1:] + self.edges[:-1])[:, None] / 2 + self._half * POINTS
        self.y = mesh.f(mean + std * self.z)
        self.weight = self._half * WEIGHTS * density(self.z)

    def of(self, values: Array) -> float:
        """The expectation of what has these values at the nodes."""
        return float((self.weight * values).sum())

    @cached_property
    def first(self) -> float:
        """E f; ArgumentError where there is none."""
        self._mean_of(self.y, 1, "mean")
        return self.of(self.y)

    @cached_property
    def second(self) -> float:
        """E f^2; ArgumentError where there is none."""
        return self._mean_of(self.y, 2, "second moment")

    @cached_property
    def variance(self) -> float:
        """E (f - E f)^2."""
        return self.of((self.y - self.first) ** 2)

    @cached_property
    def fourth(self) -> float:
        """E f^4; ArgumentError where there is none."""
        return self._mean_of(self.y, 4, "fourth moment")

    @cached_property
    def slope_of_second(self) -> float:
        """The derivative of E f^2 by the variance, E[(z^2 - 1) f^2] / (2 std^2): Stein's lemma."""
        return self.of((self.z**2 - 1) * self.y**2) / (2 * self.std**2)

    @cached_property
    def squared_slope(self) -> float:
        """E f'^2; infinite where f jumps."""
        if self.mesh.jumps(abs(self.mean) + REACH * self.std).size:
            return math.inf
        slope = slopes(self.y) / (self._half * self.std)
        return self._mean_of(slope, 2, "mean squared slope")

    def _mean_of(self, values: Array, power: int, what: str) -> float:
        """E |values|^power; ArgumentError where it is infinite."""
        with np.errstate(over="ignore"):
            cell = (self.weight * np.abs(values) ** power).sum(axis=1)
        total, mass = float(cell.sum()), self.weight.sum(axis=1)
        # The last cells on the way to infinity or to a pole: they would add as much as others.
        last = (np.abs(self.z[:, 0]) > REACH - 4) | (self._half[:, 0] < 2.0**-MOST_BISECTIONS)
        allowed = (_NEGLIGIBLE + 1e3 * float(mass[last].sum())) * total
        if not math.isfinite(total) or float(cell[last].sum()) > allowed:
            raise ArgumentError(
                f"{self.mesh.f.name} has no {what} that float64 holds for a normal variable of "
                f"mean {self.mean:g} and std {self.std:g}; expected a function that grows slower "
                "than exp(x^2 / (4 variance)), and has no pole"
            )
        return total


def _merged(cells: Cells, mean: float, std: float) -> Array:
    """Standard deviations at which to cut: where the function is cut, and for the density."""
    with np.errstate(over="ignore"):
        own = (np.append(cells.low, cells.high[-1]) - mean) / std
    own = own[np.abs(own) < REACH]
    steps = np.arange(-REACH, REACH + 1, 2.0)
    if own.size:
        # Beside one of the function's own they would make a cell of hardly any width.
        right = np.searchsorted(own, steps).clip(0, own.size - 1)
        apart = np.minimum(np.abs(steps - own[right]), np.abs(steps - own[right - 1]))
        steps = steps[(apart > 1e-3) | (np.abs(steps) == REACH)]
    return np.sort(np.concatenate([own, steps]))


def expectation(f: Activation | Mesh, mean: float = 0.0, std: float = 1.0) -> float:
    """E f(Z) for a normal Z.

    Args:
        f: as :func:`initfast.theory.gain` takes it, or its mesh.
        mean, std: of Z; std is above 0.

    Returns:
        The expectation.

    Raises:
        ArgumentError: f is no elementwise function, is NaN or infinite somewhere, or has no
            expectation.

    Example:
        >>> round(expectation(torch.square), 14), round(expectation("relu") ** 2 * math.pi, 14)
        (1.0, 0.5)
    """
    return Expectations(mesh(f), mean, std).first
