"""Where a function of one variable is smooth.

The line is cut into cells: one whose Legendre series has not decayed by its last terms is bisected,
so that what cannot be smooth, a kink, a jump or a singular point, is enclosed by ever smaller ones;
there the line is then cut, and the cells beside it are wide again. So a function is given by few
values to rounding, without knowing anything of it (Trefethen 2013, "Approximation Theory and
Approximation Practice", ch. 8; Pachon, Platte & Trefethen 2010 for the edges).
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from initfast.errors import ArgumentError
from initfast.theory.elementwise import Activation, Array, Elementwise, elementwise
from initfast.theory.legendre import NODES, POINTS, at, last_terms

MOST_BISECTIONS = 24
"""Of a cell of length 1 without a singular point."""

_DECAYED = 1e-13  # of a series' last terms, of the range of the function in the cell
_NOISE = 1e-14  # of the largest value on the way there: rounding
_DISTINCT = 1e-5  # of the range: the least that a kink or a jump leaves
_TOWARDS_ENDS = 2.0 ** np.array([-np.inf, -20, -17, -14, -11, -8])
"""Of half a cell: so near to an end, where no node is, the function is compared with its series."""

_NARROW = 2.0**-48  # of the distance to 0: the narrowest cell
_NARROWEST = 2.0**-100
_MOST_CELLS = 2**14
_JUMP = 1e-7  # of the largest value on the way there: the least jump
_UNLIKE = 1e-7  # of the values beside it: by so much a series departs behind a kink


def _so_far(largest: Array) -> Array:
    """Of the largest values in cells that lie evenly about 0, the largest from there outwards."""
    half = largest.size // 2
    outward = np.maximum.accumulate(np.maximum(largest, largest[::-1])[half:])
    return np.concatenate([outward[::-1], outward])


class Cells(NamedTuple):
    """Cells of the line, ascending.

    Attributes:
        low, high: where each begins and ends.
        first, last: the function's values at its ends, from within.
        narrow: whether it came of so many bisections that a point beside it must be a kink, a
            jump or another singular one.
        scale: the largest value on the way there from 0, on either side.
    """

    low: Array
    high: Array
    first: Array
    last: Array
    narrow: np.ndarray
    scale: Array

    def sorted(self) -> Cells:
        """These by where they begin."""
        order = np.argsort(self.low)
        return Cells(*(column[order] for column in self))


class Mesh:
    """Where a function is smooth: cells about 0, as far out as was asked for.

    Args:
        f: what :func:`elementwise` returns.
    """

    def __init__(self, f: Elementwise) -> None:
        self.f = f
        self._cells: dict[int, Cells] = {}

    def cells(self, reach: float) -> Cells:
        """Cells that together cover at least [-reach, reach].

        Raises:
            ArgumentError: f is NaN or infinite there, or changes too often.
        """
        octaves = max(math.ceil(math.log2(max(reach, 1.0))), 0)
        if octaves not in self._cells:
            ends = 2.0 ** np.arange(octaves + 1)
            cuts = np.concatenate([-ends[::-1], [0.0], ends])
            found = self._refined(cuts)
            points = self._breaks(found, cuts)
            if points.size:  # cut there, the cells beside them can be wide
                found = self._refined(np.unique(np.concatenate([cuts, points, -points])))
            self._cells[octaves] = found
        return self._cells[octaves]

    def jumps(self, reach: float) -> Array:
        """Where the function jumps, between two cells or within one of the narrowest.

        There it changes as much as it does from further left to further right.
        """
        cells = self.cells(reach)
        least = 2 * np.maximum(_NARROW * np.abs(cells.low), _NARROWEST)
        within = np.where(cells.high - cells.low <= least, cells.last - cells.first, 0.0)
        between = cells.first[1:] - cells.last[:-1]
        change = np.abs(np.concatenate([within, between]))
        scale = np.concatenate([cells.scale, np.maximum(cells.scale[:-1], cells.scale[1:])])
        some = change > _JUMP * scale
        x, change = np.concatenate([cells.high, cells.high[:-1]])[some], change[some]
        wide = 2.0**-30 * np.maximum(np.abs(x), 2.0**-70)
        return np.unique(x[change > 0.01 * np.abs(self.f(x + wide) - self.f(x - wide))])

    def kinks(self, reach: float) -> Array:
        """Where in [-reach, reach] the function, or one of its first derivatives, jumps."""
        cells = self.cells(reach)
        low, high = cells.low[:-1], cells.high[:-1]
        half = (high - low) / 2
        x = (low + high)[:, None] / 2 + half[:, None] * POINTS
        beyond = half * np.minimum(0.1, (cells.high - cells.low)[1:] / half)
        y = self.f(np.concatenate([x, (high + beyond)[:, None]], axis=1))
        drawn = at(y[:, :NODES], (1 + beyond / half)[:, None])[:, 0]
        scale = np.maximum(cells.scale[:-1], cells.scale[1:])
        found = high[np.abs(drawn - y[:, NODES]) > _UNLIKE * scale]
        return found[np.abs(found) <= reach]

    def _refined(self, cuts: Array) -> Cells:
        low, high = cuts[:-1], cuts[1:]
        scale: Array | None = None
        bisections = 0
        done: list[tuple[Array, ...]] = []
        while low.size:
            y, ends, drawn = self._sample(low, high)
            largest = np.abs(y).max(axis=1)
            if scale is None:
                scale = _so_far(largest)
            scale = np.maximum(scale, largest)
            spread = np.ptp(y, axis=1)
            # What rounding of x changes; in so narrow a cell it would hide a jump.
            steep = np.minimum(_NOISE * np.maximum(-low, high) / (high - low), _DISTINCT)
            allowed = (_DECAYED + steep) * spread + _NOISE * scale
            rough = np.maximum(last_terms(y), np.abs(drawn - ends).max(axis=1))
            wide = high - low > np.maximum(_NARROW * np.maximum(-low, high), _NARROWEST)
            split = (rough > allowed) & wide
            ready = ~split
            narrow = np.full(low.shape, bisections > MOST_BISECTIONS)
            columns = (low, high, ends[:, 0], ends[:, _TOWARDS_ENDS.size], narrow, scale)
            done.append(tuple(column[ready] for column in columns))
            middle = ((low + high) / 2)[split]
            low, high = np.append(low[split], middle), np.append(middle, high[split])
            scale, bisections = np.tile(scale[split], 2), bisections + 1
            if low.size > _MOST_CELLS:
                raise ArgumentError(
                    f"{self.f.name} is not smooth anywhere near {low[0]:g}, or changes too often "
                    "to be integrated; expected a function computed in float64, smooth but for "
                    "some points"
                )
        return Cells(*(np.concatenate(column) for column in zip(*done, strict=True))).sorted()

    def _breaks(self, cells: Cells, cuts: Array) -> Array:
        """The singular points that the narrow cells enclose and where there is no cut yet."""
        narrow = np.flatnonzero(cells.narrow)
        found = []
        for group in np.split(narrow, np.flatnonzero(np.diff(narrow) > 1) + 1):
            if group.size:
                width = (cells.high - cells.low)[group]
                least = group[width <= 1.5 * width.min()]
                point = self._kink_near(float(np.mean((cells.low + cells.high)[least])) / 2)
                if np.abs(cuts - point).min() > 8 * _NARROW * abs(point) + _NARROWEST:
                    found.append(point)
        return np.array(found)

    def _kink_near(self, x: float) -> float:
        """Where the parabolas from its left and from its right meet; x where they do not."""
        step = 2.0**-16 * max(abs(x), 2.0**-16)
        y = self.f(x + step * np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]))
        apart = y[:3] @ [1.0, -3.0, 3.0] - y[3:] @ [3.0, -3.0, 1.0]
        angle = (y[3:] @ [-5.0, 8.0, -3.0] - y[:3] @ [3.0, -8.0, 5.0]) / (2 * step)
        meet = abs(apart) < 2.0**-12 * step * abs(angle)
        return float(x + apart / angle) if meet else x

    def _sample(self, low: Array, high: Array) -> tuple[Array, Array, Array]:
        """The function at the nodes of each cell, and it and its series towards the ends."""
        half = ((high - low) / 2)[:, None]
        x = (low + high)[:, None] / 2 + half * POINTS
        offsets = [
            np.maximum(
                half * _TOWARDS_ENDS,
                np.minimum(2 * _NARROW * np.abs(end[:, None]) + 2.0**-120, half / 4),
            )
            for end in (low, high)
        ]
        ends = np.concatenate([low[:, None] + offsets[0], high[:, None] - offsets[1]], axis=1)
        t = np.concatenate([offsets[0] / half - 1, 1 - offsets[1] / half], axis=1)
        x = np.concatenate([x, ends], axis=1)
        y = self.f(x)
        bad = ~np.isfinite(y)
        if bad.any():
            nearest = np.argmin(np.abs(x[bad]))
            raise ArgumentError(
                f"{self.f.name} is {y[bad][nearest]} at {x[bad][nearest]:.6g}; expected a finite "
                "number: a normal variable takes every value, those far out too"
            )
        return y[:, :NODES], y[:, NODES:], at(y[:, :NODES], t)


@cache
def _named_mesh(name: str) -> Mesh:
    return Mesh(elementwise(name))


def mesh(f: Activation | Mesh) -> Mesh:
    """Where an activation is smooth; found once for those that have a name."""
    if isinstance(f, Mesh):
        return f
    return _named_mesh(f) if isinstance(f, str) else Mesh(elementwise(f))
