"""Which tensors have been measured: none is twice, and a layer's input need not be read again."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import Parameter

from initfast.nets.shards import local_part
from initfast.ops.dispatch import has_memory, kernels_of
from initfast.recording.facts_at_end import FactsAtEnd
from initfast.recording.rows import Rows
from initfast.recording.shared_tensors import SharedTensors
from initfast.torch_state import modes_enabled


def _storage(t: Tensor) -> UntypedStorage:
    with torch._C.DisableTorchFunction():  # another profile would take t's memory for lent
        return t.untyped_storage()


class KnownTensors:
    """The tensors that have been measured, with the addresses of their rows, and those rows.

    Attributes:
        writes: how often a function ran that may have written to any tensor.
        shared: how processes share the tensors; None where one process runs the net.
    """

    shared: SharedTensors | None = None

    def __init__(self) -> None:
        self.writes = 0
        self._rows = Rows()
        # What was measured, by id: the tensor, its version then, the address of its row.
        self._known: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}
        # What may be written to unseen, by where its memory begins.
        self._lent: dict[int, StorageWeakRef] = {}
        # Addresses of what was measured as an input and is no layer's output yet.
        self._inputs: set[int] = set()
        self._net_inputs: list[int] = []
        self._glimpsed: set[int] = set()  # addresses of what is not a layer's

    def find(self, t: Tensor) -> int | None:
        """The address of t's row; None where t has not been measured since it was written to."""
        entry = self._known.get(id(t))
        if entry is None or entry[0]() is not t:
            return None
        # Inference tensors do not count their versions: any tensor may be the one written to.
        if entry[1] != (self.writes if t.is_inference() else t._version):
            return None
        return None if self._lent and self._is_lent(t) else entry[2]

    def has_measured(self, t: Tensor) -> bool:
        """Whether t has been measured, whatever was written to it since."""
        entry = self._known.get(id(t))
        return entry is not None and entry[0]() is t

    def keep(self, t: Tensor, address: int) -> int:
        """Remember that t, as it is now, is measured in the row of this address."""
        version = self.writes if t.is_inference() else t._version
        self._known[id(t)] = (weakref.ref(t), version, address)
        return address

    def lend(self, t: Any) -> None:
        """The memory of t may be written to unseen from now on: it is measured anew at each use."""
        if type(t) in (Tensor, Parameter) and t.layout is torch.strided and t.device.type != "meta":
            storage = _storage(t)
            self._lent[storage.data_ptr()] = StorageWeakRef(storage)

    def _is_lent(self, t: Tensor) -> bool:
        """Whether it shares lent memory: what was freed since may have become another tensor's."""
        begin = _storage(t).data_ptr()
        if (lent := self._lent.get(begin)) is None:
            return False
        storage = UntypedStorage._new_with_weak_ptr(lent.cdata)
        return storage is not None and storage.data_ptr() == begin

    # ---- measuring what is not known ----

    def part(self, t: Tensor) -> Tensor:
        """What this process holds of t: t itself, where no others hold a part."""
        return local_part(t)

    def row(self, t: Tensor, kernels: Any = None) -> int | None:
        """The address of t's row, measured now unless it is known; None where it cannot be.

        Args:
            t: any tensor.
            kernels: its kernels' dispatch key, if the caller has it.
        """
        address = self.find(t)
        if address is not None:
            if self._glimpsed:
                self._glimpsed.discard(address)
            return address
        if kernels is None and (kernels := kernels_of(t)) is None:
            part = t if type(t) is Tensor else self.part(t)
            return None if part is t else self.row(part)
        if (address := self._measure(t, kernels)) is not None:
            self._inputs.add(address)
        return address

    def _measure(self, t: Tensor, kernels: Any, unit_dim: int | None = None) -> int | None:
        """The address of its new row, measured with these kernels; None where it cannot be."""
        if kernels is None:
            return None
        if not modes_enabled():
            return self._measure_plain(t, kernels, unit_dim)
        with torch._C.DisableTorchFunction():  # another profile would take this for the net's doing
            return self._measure_plain(t, kernels, unit_dim)

    def _measure_plain(self, t: Tensor, kernels: Any, unit_dim: int | None) -> int | None:
        return self.keep(t, self._rows.measure(t, kernels, unit_dim)) if has_memory(t) else None

    def _measure_units(self, address: int, t: Tensor, kernels: Any, unit_dim: int) -> None:
        """Measure the units of t too, whose row has this address, as far as that can be done."""
        if kernels is None:
            return
        if modes_enabled():
            with torch._C.DisableTorchFunction():  # another profile would take t's memory for lent
                if has_memory(t):
                    self._rows.measure_units(address, t, kernels, unit_dim)
        elif has_memory(t):
            self._rows.measure_units(address, t, kernels, unit_dim)

    def net_input(self, x: Tensor) -> None:
        """Measure an input of the net itself."""
        if (address := self.row(x)) is not None:
            self._net_inputs.append(address)

    def facts_at_end(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        owners: Sequence[tuple[str, str]],
        tensors: Sequence[Tensor],
    ) -> FactsAtEnd:
        """What decides the scale of the modules' outputs, with these tensors of theirs copied."""
        return FactsAtEnd.of(settings, owners, tensors, self._rows)

    def glimpse(self, t: Tensor) -> int | None:
        """The address of the row of what a function took or made, measured now if need be."""
        if (address := self.find(t)) is None and (address := self.row(t)) is not None:
            self._glimpsed.add(address)
        return address

    def find_layer(self, t: Tensor) -> int | None:
        """As :meth:`find`, and None where only a function that is no layer made or took it."""
        address = self.find(t)
        return None if address in self._glimpsed else address

    def is_output(self, y: Tensor) -> bool:
        """Whether y is measured as an output."""
        address = self.find(y)
        return address is not None and address not in self._inputs

    def is_reported(self, t: Tensor) -> bool:
        """Whether t is a layer's output or an input of the net, not just what a layer took."""
        address = self.find_layer(t)
        return address is not None and (address not in self._inputs or address in self._net_inputs)
