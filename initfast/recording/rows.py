"""Rows of moments until all are read, with the masks, the loss and the units' moments beside them.

A row is one of :mod:`initfast.ops.reference_moments`. A mask tells which units of a layer are not
zero over the whole batch; the units' moments are those of :mod:`initfast.ops.reference_units`. What
the CPU measures is written to few pieces of the host's memory: small tensors that lie between large
ones would keep the memory of these from being used again. What a card measures stays there until
all is read, in one copy from each card, whatever the depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from initfast.ops.checks import DTYPES
from initfast.ops.dispatch import MEASURE, MOMENTS, OF_THE_CPU, UNIT_MOMENTS
from initfast.ops.reference_moments import COLUMNS
from initfast.recording.streams import stream_of, wait_for
from initfast.recording.unit_room import UnitRoom, split_units, units_to_keep
from initfast.torch_state import modes_enabled

_BYTES = 8 * COLUMNS
_FIRST = 1 << 10  # rows that there is room for at first
Put = Callable[[np.ndarray], None]
_DTYPES = {dtype: number for number, dtype in enumerate(DTYPES)}  # as csrc/math/dtype.h counts


def _array(t: Tensor) -> np.ndarray:
    """The numbers of a tensor on the CPU."""
    if not modes_enabled():
        return t.numpy()
    with torch._C.DisableTorchFunction():  # another profile would take this for the net's doing
        return t.numpy()


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
        self._unit_room = UnitRoom()
        self._units_elsewhere: list[tuple[Sequence[int], Tensor, Sequence[int]]] = []
        # The masks, what each is made of where that is several, the first one's number.
        self._masks: list[tuple[bytes | Tensor, Sequence[int] | None, int]] = []
        self._mask_count = 0
        self._numbers: list[float | Tensor] = []
        self._values: list[Tensor] = []
        self._streams: set[tuple[torch.device, int]] = set()  # that rows were measured on

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
        if MEASURE is None or kernels is not OF_THE_CPU or not t.is_contiguous():
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
        if MEASURE is None or kernels is not OF_THE_CPU or not t.is_contiguous():
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
            if (stream := stream_of(found.device)) is not None:
                self._streams.add((found.device, stream))
            return
        with self._lock:
            self._unit_room.put(addresses, _array(found).reshape(-1), lengths)

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
            if (stream := stream_of(rows.device)) is not None:
                self._streams.add((rows.device, stream))
            return
        with self._lock:
            self._host[address : address + count] = _array(rows).reshape(count, COLUMNS)

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
        kept = _array(mask).tobytes() if mask.is_cpu else mask
        with self._lock:
            number = self._mask_count
            self._masks.append((kept, lengths, number))
            self._mask_count = number + (1 if lengths is None else len(lengths))
            return number

    def add_number(self, x: Tensor) -> None:
        """Keep what a tensor of one number says, after those that were kept before."""
        on_a_card = type(x) is Tensor and x.is_cuda
        self._numbers.append(x.detach().double().reshape(1) if on_a_card else x.item())

    def add_values(self, values: Tensor) -> int:
        """Keep the values of a tensor of one dimension, which nobody else writes to; its number."""
        if (stream := stream_of(values.device)) is not None:
            self._streams.add((values.device, stream))
        with self._lock:
            self._values.append(values)
            return len(self._values) - 1

    def read(self) -> Copies:
        """All that was kept; what is on other devices is copied, once from each."""
        numbers = [math.nan if isinstance(x, Tensor) else x for x in self._numbers]
        masks = [np.empty(0, bool)] * self._mask_count
        units = self._unit_room.read()
        copies = Copies(self._host[: self.count].copy(), masks, numbers, units, [*self._values])
        for mask, lengths, first in self._masks:
            if isinstance(mask, bytes):
                _cut(masks, lengths, first, np.frombuffer(mask, np.uint8))
        by_device: dict[torch.device, list[tuple[Tensor, Put]]] = {}
        for t, put in self._kept_elsewhere(copies):
            by_device.setdefault(t.device, []).append((t.view(torch.uint8), put))
        for device, found in by_device.items():
            wait_for(device, [stream for where, stream in self._streams if where == device])
            data, begin = torch.cat([t for t, _ in found]).cpu().numpy(), 0
            for t, put in found:
                put(data[begin : begin + t.numel()])
                begin += t.numel()
        return copies

    def _kept_elsewhere(self, copies: Copies) -> Iterator[tuple[Tensor, Put]]:
        """What is on other devices, each with what puts its bytes into their place."""
        for address, rows in self._elsewhere.items():
            yield rows.reshape(-1), partial(_put_rows, copies.rows, address)
        for i, x in enumerate(self._numbers):
            if isinstance(x, Tensor):
                yield x, partial(_put_number, copies.numbers, i)
        for addresses, found, widths in self._units_elsewhere:
            yield found.reshape(-1), partial(_put_units, copies.units, addresses, widths)
        for mask, lengths, first in self._masks:
            if isinstance(mask, Tensor):
                yield mask, partial(_cut, copies.masks, lengths, first)
        for i, values in enumerate(self._values):
            if not values.is_cpu:
                yield values, partial(_put_values, copies.values, i)


def _put_rows(rows: np.ndarray, address: int, data: np.ndarray) -> None:
    found = data.view(np.float64).reshape(-1, COLUMNS)
    rows[address : address + len(found)] = found


def _put_number(numbers: list[float], i: int, data: np.ndarray) -> None:
    numbers[i] = data.view(np.float64).item()


def _put_values(values: list[Tensor], i: int, data: np.ndarray) -> None:
    values[i] = torch.from_numpy(data.copy()).view(values[i].dtype)


def _put_units(
    units: dict[int, np.ndarray],
    addresses: Sequence[int],
    widths: Sequence[int],
    data: np.ndarray,
) -> None:
    found = split_units(data.view(np.float64), widths)
    units.update(zip(addresses, found, strict=True))


def _cut(
    masks: list[np.ndarray], lengths: Sequence[int] | None, first: int, data: np.ndarray
) -> None:
    """Put the masks that lie in one after the other into their places."""
    begin = 0
    for number, length in enumerate(lengths or (len(data),), start=first):
        masks[number] = data[begin : begin + length].view(bool)
        begin += length


class Copies(NamedTuple):
    """What was measured, on the host.

    Attributes:
        rows: by address.
        masks, numbers: by theirs.
        units: by the address of a tensor's row, the moments of its units.
        values: of the tensors whose values were kept.
    """

    rows: np.ndarray
    masks: list[np.ndarray]
    numbers: list[float]
    units: dict[int, np.ndarray]
    values: list[Tensor]

    def nonfinite(self) -> bool:
        """Whether any row counts a non-finite value."""
        return bool(self.rows[:, 1].any())
