"""Notes on what was measured, beside its numbers: whose output it is, and whether NaN is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from initfast.recording.rows import Rows


@dataclass
class Marks:
    """Notes by the address of the row of an output or a pre-activation.

    Attributes:
        also: the modules whose output it is too.
        replaced: the modules whose output it was until a hook put another in its place.
        returned: the addresses of what the net returned.
    """

    also: dict[int, list[str]] = field(default_factory=dict)
    replaced: dict[int, list[str]] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)
    _nans: dict[int, bool | int] = field(default_factory=dict)  # an answer, or the mask that tells

    def add(self, address: int, name: str) -> None:
        """The output of this address is that of the module of this name too."""
        self.also.setdefault(address, []).append(name)

    def modules(self, address: int) -> tuple[str, ...]:
        """The further modules whose output this is, each once."""
        gone = self.replaced.get(address, ())
        return tuple(dict.fromkeys(n for n in self.also.get(address, ()) if n not in gone))

    def look_for_nan(self, address: int, y: Tensor, rows: Rows) -> None:
        """Note whether y has a NaN, where its row does not tell that all is finite.

        A card, which has not counted yet, looks in any case, and is not waited for.
        """
        if not rows.may_be_nonfinite(address):
            return
        with torch._C.DisableTorchFunction():
            found = y.detach().isnan().any()
            self._nans[address] = bool(found) if found.is_cpu else rows.add_mask(found.view(1))

    def has_nan(self, address: int, masks: Sequence[np.ndarray]) -> bool | None:
        """Whether there is a NaN; None where nothing was noted."""
        found = self._nans.get(address)
        return found if found is None or isinstance(found, bool) else bool(masks[found].any())
