"""Rows of moments that stay on their devices until the end: one copy from each, whatever the depth.

A row is eight float64 columns; a tensor of rows is what an operator measured at once. Beside the
rows lie masks: which units of a layer are not zero over the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_BYTES = 8 * 8


class Rows:
    """Keeps tensors of rows in the order in which they come; a row's address is its number.

    Attributes:
        count: of the rows so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._lock = Lock()  # another thread may ask for the values of a layer that waits
        # By rows a tensor: the tensors, and the address of each one's first row.
        self._kept: dict[int, tuple[list[Tensor], list[int]]] = {}
        # The tensors of masks, what each is made of where that is several, the first one's number.
        self._masks: list[tuple[Tensor, Sequence[int] | None, int]] = []
        self._mask_count = 0

    def add(self, rows: Tensor, count: int) -> int:
        """Keep a tensor of that many rows; the address of its first."""
        with self._lock:
            kept = self._kept.get(count)
            if kept is None:
                kept = self._kept[count] = ([], [])
            address = self.count
            kept[0].append(rows)
            kept[1].append(address)
            self.count = address + count
            return address

    def add_mask(self, mask: Tensor, lengths: Sequence[int] | None = None) -> int:
        """Keep a mask, or several of these lengths one after the other; the first one's number."""
        with self._lock:
            number = self._mask_count
            self._masks.append((mask, lengths, number))
            self._mask_count = number + (1 if lengths is None else len(lengths))
            return number

    def read(self) -> Copies:
        """Copy everything from the devices, once from each."""
        devices = {t.device for kept, _ in self._kept.values() for t in kept}
        copies = [self._copy(device, len(devices) == 1) for device in devices]
        return Copies(self.count, self._mask_count, copies)

    def _copy(self, device: torch.device, only: bool) -> _Copy:
        def mine(tensors: Iterable[Tensor]) -> list[int]:
            return [i for i, t in enumerate(tensors) if only or t.device == device]

        parts: list[Tensor] = []
        addresses: list[np.ndarray] = []
        for count, (tensors, first) in self._kept.items():
            if here := mine(tensors):
                parts.append(torch.stack([tensors[i] for i in here]))
                at = np.array([first[i] for i in here])
                addresses.append((at[:, None] + np.arange(count)).ravel())
        masks = [self._masks[i] for i in mine(mask for mask, *_ in self._masks)]
        if masks:
            parts.append(torch.cat([mask for mask, *_ in masks]))
        data = torch.cat([part.view(torch.uint8).view(-1) for part in parts]).cpu().numpy()
        lengths = [
            (first + i, length)
            for mask, several, first in masks
            for i, length in enumerate(several or (mask.numel(),))
        ]
        return data, addresses, lengths


_Copy = tuple[np.ndarray, list[np.ndarray], list[tuple[int, int]]]
"""One device's bytes: rows, then masks; the rows' addresses; each mask's number and length."""


class Copies(NamedTuple):
    """What the devices held: how many rows and masks, and each device's part of them."""

    rows: int
    masks: int
    parts: list[_Copy]

    def nonfinite(self) -> bool:
        """Whether any row counts a non-finite value."""
        return any(
            data[: _BYTES * sum(map(len, addresses))].view(np.float64)[1::8].any()
            for data, addresses, _ in self.parts
        )

    def sort(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The rows ``[count, 8]`` by address, and the masks."""
        rows, masks = np.empty((self.rows, 8)), [np.empty(0, bool)] * self.masks
        for data, addresses, lengths in self.parts:
            at = 0
            for address in addresses:
                end = at + _BYTES * len(address)
                rows[address] = data[at:end].view(np.float64).reshape(-1, 8)
                at = end
            for i, length in lengths:
                masks[i] = data[at : at + length].view(bool)
                at += length
        return rows, masks
