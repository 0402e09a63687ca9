"""Where the moments of units lie until all are read.

They are those of :mod:`initfast.ops.reference_units`, of one tensor after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from initfast.ops.reference_units import UNIT_COLUMNS

_FIRST_UNITS = 1 << 14  # numbers that there is room for at first
MOST_UNITS = 1 << 18
"""Of a layer with more units than these their moments are not kept: they take 32 bytes each."""


def address_per_sample(address: int) -> int:
    """Under which address the moments of a tensor's entries over its samples are kept.

    That of its row, as no row has it.
    """
    return ~address


def units_to_keep(shape: Sequence[int], unit_dim: int) -> int:
    """How many units a tensor of this shape has; 0 where their moments are not kept."""
    units = shape[unit_dim] if len(shape) > 1 else 0
    return units if units <= MOST_UNITS else 0


class UnitRoom:
    """The units' moments on the host, one tensor's after the other's in one piece of memory.

    Few large pieces: a full one stays where it is, and the next is begun.
    """

    def __init__(self) -> None:
        self._full: list[np.ndarray] = []
        self._room = np.empty(_FIRST_UNITS)
        self._begin, self._used = self._room.ctypes.data, 0
        # By the address of a tensor's row: which piece, where there, how many numbers.
        self._places: dict[int, tuple[int, int, int]] = {}

    def make(self, address: int, units: int) -> int:
        """Where in memory to write the units' moments of the tensor whose row has this address."""
        count, first = UNIT_COLUMNS * units, self._used
        if first + count > self._room.size:
            self._full.append(self._room)
            self._room = np.empty(max(2 * self._room.size, count))
            self._begin, first = self._room.ctypes.data, 0
        self._used = first + count
        self._places[address] = len(self._full), first, count
        return self._begin + 8 * first

    def put(self, addresses: Sequence[int], found: np.ndarray, lengths: Sequence[int]) -> None:
        """Keep the units' moments of several tensors, one's after the other's."""
        self.make(addresses[0], found.size // UNIT_COLUMNS)
        piece, first, _ = self._places[addresses[0]]
        self._room[first : first + found.size] = found
        for address, length in zip(addresses, lengths, strict=True):
            count = UNIT_COLUMNS * length
            self._places[address] = piece, first, count
            first += count

    def read(self) -> dict[int, np.ndarray]:
        """By the address of a tensor's row, ``[UNIT_COLUMNS, units]``."""
        pieces = [*self._full, self._room[: self._used].copy()]
        return {
            address: pieces[piece][first : first + count].reshape(UNIT_COLUMNS, -1)
            for address, (piece, first, count) in self._places.items()
        }


def split_units(found: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """The units' moments of each of several tensors."""
    ends = UNIT_COLUMNS * np.cumsum(lengths)
    return [part.reshape(UNIT_COLUMNS, -1) for part in np.split(found, ends[:-1])]
