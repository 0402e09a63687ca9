"""Which tensors have been measured: none is twice, and a layer's input need not be read again."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import Parameter


class Measured:
    """The tensors that have been measured, with the addresses of their rows.

    Attributes:
        writes: how often a function ran that may have written to any tensor.
    """

    def __init__(self) -> None:
        self.writes = 0
        # What was measured, by id: the tensor, its version then, the address of its row.
        self._known: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}
        # What may be written to unseen, by where its memory begins.
        self._lent: dict[int, StorageWeakRef] = {}

    def find(self, t: Tensor) -> int | None:
        """The address of t's row; None where t has not been measured since it was written to."""
        entry = self._known.get(id(t))
        if entry is None or entry[0]() is not t or entry[1] != self._version(t):
            return None
        return None if self._lent and self._is_lent(t) else entry[2]

    def keep(self, t: Tensor, address: int) -> int:
        """Remember that t, as it is now, is measured in the row of this address."""
        self._known[id(t)] = (weakref.ref(t), self._version(t), address)
        return address

    def lend(self, t: Any) -> None:
        """The memory of t may be written to unseen from now on: it is measured anew at each use."""
        if type(t) in (Tensor, Parameter) and t.layout is torch.strided and t.device.type != "meta":
            storage = t.untyped_storage()
            self._lent[storage.data_ptr()] = StorageWeakRef(storage)

    def _is_lent(self, t: Tensor) -> bool:
        """Whether it shares lent memory: what was freed since may have become another tensor's."""
        begin = t.untyped_storage().data_ptr()
        if (lent := self._lent.get(begin)) is None:
            return False
        storage = UntypedStorage._new_with_weak_ptr(lent.cdata)
        return storage is not None and storage.data_ptr() == begin

    def _version(self, t: Tensor) -> int:
        """How often t was written to; for inference tensors, which do not count, any tensor was."""
        try:
            return t._version
        except RuntimeError:
            return self.writes
