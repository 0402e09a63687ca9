"""What of a net's modules but their weights decides the scale of their outputs, as a forward ends.

Their biases and the like may change before anybody reads a report, so they are copied then, all of
one dtype and device at once; to measure each would take longer than a narrow layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import Parameter

from initfast.ops.dispatch import MOMENTS, kernels_of
from initfast.recording.rows import Rows
from initfast.stats.moments import Moments

_CAT = torch.ops.aten.cat.default
Owner = tuple[str, str]
"""The names of a module and of one of its tensors."""


class FactsAtEnd(NamedTuple):
    """What was found of the modules.

    Attributes:
        settings: of each module that has some, by its name.
        owners: of the tensors of one dimension, as :func:`initfast.nets.settings.vectors` says.
        groups: the copies: the number of each in :class:`Rows`, whose tensors lie in it one after
            the other, and how long they are.
    """

    settings: Mapping[str, Mapping[str, Any]]
    owners: Sequence[Owner]
    groups: Sequence[tuple[int, Sequence[int], Sequence[int]]]

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Mapping[str, Any]],
        owners: Sequence[Owner],
        tensors: Sequence[Tensor],
        rows: Rows,
    ) -> FactsAtEnd:
        """With the tensors copied to where the rows are kept, as far as they can be measured."""
        groups = []
        for places in _groups(tensors):
            group = [tensors[i] for i in places]
            # By this key neither autograd nor anybody's modes see it.
            copy = _CAT.redispatch(kernels_of(group[0]), group)
            groups.append((rows.add_values(copy), places, [t.numel() for t in group]))
        return cls(settings, owners, groups)

    def vectors(self, values: Sequence[Tensor]) -> dict[str, dict[str, Moments]]:
        """The moments of the tensors, by the names of their modules and their own.

        Args:
            values: the copies, on the host.
        """
        found: dict[int, Moments] = {}
        with torch._C.DisableTorchFunction():
            for number, places, lengths in self.groups:
                ends, copy = np.cumsum([0, *lengths]).tolist(), values[number]
                kernels = kernels_of(copy)
                for place, (begin, end) in zip(places, pairwise(ends), strict=True):
                    row = MOMENTS(kernels, copy[begin:end])
                    found[place] = Moments.from_row(row.numpy().tolist())
        of_modules: dict[str, dict[str, Moments]] = {}
        for place, (module, name) in enumerate(self.owners):  # in the module's own order
            if place in found:
                of_modules.setdefault(module, {})[name] = found[place]
        return of_modules


def _groups(tensors: Sequence[Tensor]) -> Iterable[list[int]]:
    """The places of those that can be copied, one list for each device and dtype.

    Another for negative views: of all in a list, the first says by which kernels it is read.
    """
    groups: dict[tuple[torch.dtype, torch.device, bool], list[int]] = {}
    strided = torch.strided
    for place, t in enumerate(tensors):
        if (type(t) is Parameter or kernels_of(t) is not None) and t.layout is strided:
            if t.dim() == 1 and t.untyped_storage().nbytes():
                kind = t.dtype, t.device, t.is_neg()
                if kind in groups:
                    groups[kind].append(place)
                elif kernels_of(t) is not None:
                    groups[kind] = [place]
    return groups.values()
