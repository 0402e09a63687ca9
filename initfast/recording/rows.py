"""Rows of moments until all are read, with the masks and the loss beside them.

A row is one of :mod:`initfast.ops.reference_moments`. A mask tells which units of a layer are not
zero over the whole batch. What the CPU measures is written to one piece of the host's memory: small
tensors that lie between large ones would keep the memory of these from being used again. What a
card measures stays there until all is read, in one copy from each card, whatever the depth.
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
from initfast.ops.dispatch import MEASURE, MOMENTS
from initfast.ops.reference_moments import COLUMNS
from initfast.recording.streams import stream_of, wait_for

_BYTES = 8 * COLUMNS
_FIRST = 1 << 10  # rows that there is room for at first
Put = Callable[[np.ndarray], None]
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
        # The masks, what each is made of where that is several, the first one's number.
        self._masks: list[tuple[bytes | Tensor, Sequence[int] | None, int]] = []
        self._mask_count = 0
        self._numbers: list[float | Tensor] = []
        self._streams: set[tuple[torch.device, int]] = set()  # that rows were measured on

    def measure(self, t: Tensor, kernels: Any) -> int:
        """Measure a tensor that these kernels take and that has its memory; its row's address."""
        if MEASURE is None or not t.is_cpu or not t.is_contiguous():
            return self.add(MOMENTS(kernels, t), 1)
        with self._lock:
            address = self.count
            if address == self._room:
                self._make_room(2 * address)
            row = self._begin + _BYTES * address
            MEASURE(t.data_ptr(), t.numel(), _DTYPES[t.dtype], row)
            self.count = address + 1
            return address

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

    def add_number(self, x: Tensor) -> None:
        """Keep what a tensor of one number says, after those that were kept before."""
        on_a_card = type(x) is Tensor and x.is_cuda
        self._numbers.append(x.detach().double().reshape(1) if on_a_card else x.item())

    def read(self) -> Copies:
        """All that was kept; what is on other devices is copied, once from each."""
        numbers = [math.nan if isinstance(x, Tensor) else x for x in self._numbers]
        masks = [np.empty(0, bool)] * self._mask_count
        copies = Copies(self._host[: self.count].copy(), masks, numbers)
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
        for mask, lengths, first in self._masks:
            if isinstance(mask, Tensor):
                yield mask, partial(_cut, copies.masks, lengths, first)


def _put_rows(rows: np.ndarray, address: int, data: np.ndarray) -> None:
    found = data.view(np.float64).reshape(-1, COLUMNS)
    rows[address : address + len(found)] = found


def _put_number(numbers: list[float], i: int, data: np.ndarray) -> None:
    numbers[i] = data.view(np.float64).item()


def _cut(
    masks: list[np.ndarray], lengths: Sequence[int] | None, first: int, data: np.ndarray
) -> None:
    """Put the masks that lie in one after the other into their places."""
    begin = 0
    for number, length in enumerate(lengths or (len(data),), start=first):
        masks[number] = data[begin : begin + length].view(bool)
        begin += length


class Copies(NamedTuple):
    """What was measured, on the host: the rows by address, the masks and numbers by theirs."""

    rows: np.ndarray
    masks: list[np.ndarray]
    numbers: list[float]

    def nonfinite(self) -> bool:
        """Whether any row counts a non-finite value."""
        return bool(self.rows[:, 1].any())
