"""Rows of moments that stay on their devices until the end: one copy from each, whatever the depth.

A row is eight float64 columns; a tensor of rows is what an operator measured at once. Beside the
rows lie masks: which units of a layer are not zero over the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable
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
        # By rows a tensor: the tensors, and the address of each one's first row.
        self._kept: dict[int, tuple[list[Tensor], list[int]]] = {}
        self._masks: list[Tensor] = []

    def add(self, rows: Tensor, count: int) -> int:
        """Keep a tensor of that many rows; the address of its first."""
        kept = self._kept.get(count)
        if kept is None:
            kept = self._kept[count] = ([], [])
        address = self.count
        kept[0].append(rows)
        kept[1].append(address)
        self.count = address + count
        return address

    def add_mask(self, mask: Tensor) -> int:
        """Keep a mask; its number."""
        self._masks.append(mask)
        return len(self._masks) - 1

    def read(self) -> Copies:
        """Copy everything from the devices, once from each."""
        tensors = [t for kept, _ in self._kept.values() for t in kept] + self._masks
        devices = {t.device for t in tensors}
        copies = [self._copy(device, len(devices) == 1) for device in devices]
        return Copies(self.count, len(self._masks), copies)

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
        masks = mine(self._masks)
        if masks:
            parts.append(torch.cat([self._masks[i] for i in masks]))
        data = torch.cat([part.view(torch.uint8).view(-1) for part in parts]).cpu().numpy()
        return data, addresses, [(i, self._masks[i].numel()) for i in masks]


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
