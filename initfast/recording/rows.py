"""Rows of moments until all are read, and the masks and the units' moments beside them.

A row is one of :mod:`initfast.ops.reference_moments`. A mask tells which units of a layer are not
zero over the whole batch; the units' moments are those of :mod:`initfast.ops.reference_units`. What
the CPU measures is written to few pieces of the host's memory: small tensors that lie between large
ones would keep the memory of these from being used again. What a card measures stays there until
all is read, in one copy from each card, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from initfast.ops.checks import DTYPES
from initfast.ops.dispatch import MEASURE, MOMENTS, UNIT_MOMENTS
from initfast.ops.reference_moments import COLUMNS
from initfast.ops.reference_units import UNIT_COLUMNS

_BYTES = 8 * COLUMNS
_FIRST = 1 << 10  # rows that there is room for at first
_FIRST_UNITS = 1 << 14  # numbers that there is room for at first
MOST_UNITS = 1 << 18
"""Of a layer with more units than these their moments are not kept: they take 32 bytes each."""

_DTYPES = {dtype: number for number, dtype in enumerate(DTYPES)}  # as csrc/math/dtype.h counts


class Rows:
    """Keeps rows in the order in which they come; a row's address is its number.

    Attributes:
        count: of the rows so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._lock = Lock()  # another thread may ask for the values of a layer that waits
        self._host = np.empty((0, COLUMNS))
        self._make_room(_FIRST)
        # The rows that are on other devices, by the address of each tensor's first.
        self._elsewhere: dict[int, Tensor] = {}
        self._unit_room = _UnitRoom()
        self._units_elsewhere: list[tuple[Sequence[int], Tensor, Sequence[int]]] = []
        # The masks, what each is made of where that is several, the first one's number.
        self._masks: list[tuple[bytes | Tensor, Sequence[int] | None, int]] = []
        self._mask_count = 0

    def measure(self, t: Tensor, kernels: Any, unit_dim: int | None = None) -> int:
        """Measure a tensor that these kernels take and that has its memory.

        Args:
            t: the tensor.
            kernels: its kernels' dispatch key.
            unit_dim: the dimension that counts the units, whose moments are kept too; or None.

        Returns:
            The address of its row.
        """
        units = 0 if unit_dim is None else units_to_keep(t.shape, unit_dim)
        if MEASURE is None or not t.is_cpu or not t.is_contiguous():
            if not units:
                return self.add(MOMENTS(kernels, t), 1)
            row, found = UNIT_MOMENTS(kernels, t, unit_dim, True)
            address = self.add(row, 1)
            self.add_units([address], found, [units])
            return address
        with self._lock:
            address = self.count
            if address == self._room:
                self._make_room(2 * address)
            row, count = self._begin + _BYTES * address, t.numel()
            if unit_dim is not None and units:
                inner, place = t.stride(unit_dim), self._unit_room.make(address, units)
                MEASURE(t.data_ptr(), count, _DTYPES[t.dtype], row, units, inner, place)
            else:
                MEASURE(t.data_ptr(), count, _DTYPES[t.dtype], row, 0, 0, None)
            self.count = address + 1
            return address

    def measure_units(self, address: int, t: Tensor, kernels: Any, unit_dim: int) -> None:
        """Measure the units of a tensor whose row has this address."""
        if not (units := units_to_keep(t.shape, unit_dim)):
            return
        if MEASURE is None or not t.is_cpu or not t.is_contiguous():
            self.add_units([address], UNIT_MOMENTS(kernels, t, unit_dim, False)[1], [units])
            return
        with self._lock:
            place = self._unit_room.make(address, units)
            inner = t.stride(unit_dim)
            MEASURE(t.data_ptr(), t.numel(), _DTYPES[t.dtype], None, units, inner, place)

    def add_units(self, addresses: Sequence[int], found: Tensor, lengths: Sequence[int]) -> None:
        """Keep the units' moments of several tensors, one's after the other's.

        Args:
            addresses: of the tensors' rows.
            found: the moments.
            lengths: how many units each has.
        """
        if not found.is_cpu:
            self._units_elsewhere.append((addresses, found, lengths))
            return
        with self._lock:
            self._unit_room.put(addresses, found.numpy().reshape(-1), lengths)

    def add(self, rows: Tensor, count: int) -> int:
        """Keep a tensor of that many rows; the address of its first."""
        address = self.reserve(count)
        self.put(address, rows, count)
        return address

    def reserve(self, count: int) -> int:
        """The address of the first of that many rows that are to be measured yet."""
        with self._lock:
            address = self.count
            self.count = end = address + count
            if end > self._room:
                self._make_room(2 * end)
            return address

    def put(self, address: int, rows: Tensor, count: int) -> None:
        """Keep a tensor of that many rows at an address that was reserved for them."""
        if not rows.is_cpu:
            self._elsewhere[address] = rows
            return
        with self._lock:
            self._host[address : address + count] = rows.numpy().reshape(count, COLUMNS)

    def _make_room(self, rows: int) -> None:
        room = np.zeros((rows, COLUMNS))
        room[: len(self._host)] = self._host
        self._host, self._room, self._begin = room, rows, room.ctypes.data

    def tensor(self, address: int, count: int) -> Tensor:
        """That many rows from there, which were measured at once, where they are."""
        found = self._elsewhere.get(address)
        return torch.from_numpy(self._host[address : address + count]) if found is None else found

    def unmasked(self, address: int, y: Tensor) -> Tensor:
        """The row of y that counts no -inf as non-finite: a mask's are wanted.

        What makes harm of them is found by its own row.
        """
        rows = self.tensor(address, 1)
        if not y.is_floating_point() or (rows.is_cpu and not rows[0, 1]):
            return rows
        with torch._C.DisableTorchFunction():
            rows = rows.clone()
            rows[0, 1] -= (y.detach() == -torch.inf).sum()
        return rows

    def add_mask(self, mask: Tensor, lengths: Sequence[int] | None = None) -> int:
        """Keep a mask, or several of these lengths one after the other; the first one's number."""
        kept = mask.numpy().tobytes() if mask.is_cpu else mask
        with self._lock:
            number = self._mask_count
            self._masks.append((kept, lengths, number))
            self._mask_count = number + (1 if lengths is None else len(lengths))
            return number

    def read(self) -> Copies:
        """What is here so far; what is on other devices is copied, once from each."""
        rows, masks = self._host[: self.count].copy(), [np.empty(0, bool)] * self._mask_count
        units = self._unit_room.read()
        away = [mask for mask, *_ in self._masks if isinstance(mask, Tensor)]
        away += [found for _, found, _ in self._units_elsewhere]
        for device in {t.device for t in (*self._elsewhere.values(), *away)}:
            self._copy(device, rows, masks, units)
        for mask, lengths, first in self._masks:
            if isinstance(mask, bytes):
                _cut(np.frombuffer(mask, bool), lengths, first, masks)
        return Copies(rows, masks, units)

    def _copy(
        self,
        device: torch.device,
        rows: np.ndarray,
        masks: list[np.ndarray],
        units: dict[int, np.ndarray],
    ) -> None:
        """Put what a device holds into its places."""
        found = [(at, t) for at, t in self._elsewhere.items() if t.device == device]
        own = [m for m in self._masks if isinstance(m[0], Tensor) and m[0].device == device]
        of_units = [u for u in self._units_elsewhere if u[1].device == device]
        parts = [t.reshape(-1).view(torch.uint8) for _, t in found]
        parts += [t.reshape(-1).view(torch.uint8) for _, t, _ in of_units]
        parts += [m[0].view(torch.uint8) for m in own if isinstance(m[0], Tensor)]
        data = torch.cat(parts).cpu().numpy()
        begin = 0
        for (at, _), part in zip(found, parts, strict=False):
            here = data[begin : begin + part.numel()].view(np.float64).reshape(-1, COLUMNS)
            rows[at : at + len(here)] = here
            begin += part.numel()
        for (addresses, _, lengths), part in zip(of_units, parts[len(found) :], strict=False):
            here = data[begin : begin + part.numel()].view(np.float64)
            units.update(zip(addresses, _by_tensor(here, lengths), strict=True))
            begin += part.numel()
        kept = len(found) + len(of_units)
        for (_, lengths, first), part in zip(own, parts[kept:], strict=True):
            _cut(data[begin : begin + part.numel()].view(bool), lengths, first, masks)
            begin += part.numel()


def _cut(
    mask: np.ndarray, lengths: Sequence[int] | None, first: int, masks: list[np.ndarray]
) -> None:
    """Put the masks that lie in one after the other into their places."""
    begin = 0
    for number, length in enumerate(lengths or (len(mask),), start=first):
        masks[number] = mask[begin : begin + length]
        begin += length


def units_to_keep(shape: Sequence[int], unit_dim: int) -> int:
    """How many units a tensor of this shape has; 0 where their moments are not kept."""
    units = shape[unit_dim] if len(shape) > 1 else 0
    return units if units <= MOST_UNITS else 0


class _UnitRoom:
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


def _by_tensor(found: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """The units' moments of each of several tensors."""
    ends = UNIT_COLUMNS * np.cumsum(lengths)
    return [part.reshape(UNIT_COLUMNS, -1) for part in np.split(found, ends[:-1])]


class Copies(NamedTuple):
    """What was measured, on the host.

    Attributes:
        rows: by address.
        masks: by number.
        units: by the address of a tensor's row, the moments of its units.
    """

    rows: np.ndarray
    masks: list[np.ndarray]
    units: dict[int, np.ndarray]

    def nonfinite(self) -> bool:
        """Whether any row counts a non-finite value."""
        return bool(self.rows[:, 1].any())
