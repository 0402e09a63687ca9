"""A recorder that also keeps what `measure=` asks for, such as attention and histograms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from initfast.nets.activation_calls import Call
from initfast.recording import attention, histograms
from initfast.recording.events import Source
from initfast.recording.gradients import Gradients
from initfast.recording.layers import Recording
from initfast.recording.recorder import Recorder
from initfast.recording.unit_room import address_per_sample
from initfast.stats.recurrence import Recurrence


class ExtendedRecorder(Recorder):
    """Keeps, of what has a row, what was asked for beside its moments.

    Args:
        measure: names in :data:`initfast.profiling.arguments.MEASURES`.
        stop_at_nonfinite, gradients: as of :class:`Recorder`.
    """

    def __init__(
        self,
        measure: Collection[str],
        stop_at_nonfinite: bool = False,
        gradients: Gradients | None = None,
    ) -> None:
        super().__init__(stop_at_nonfinite, gradients)
        self.measure = measure
        # By the addresses of outputs' rows; of modules whose output is not there yet, by name.
        self._attention: dict[int, Tensor] = {}
        self._attention_within: dict[str, Tensor] = {}
        self._histograms: dict[int, Tensor] = {}
        self._recurrence: dict[int, Mapping[str, Recurrence]] = {}
        self._recurrence_within: dict[str, Mapping[str, Recurrence]] = {}

    def keep_attention(self, y: Tensor, lines: Tensor) -> None:
        """The logits of the attention that has made y, as :mod:`initfast.recording.attention`."""
        if (address := self.find(y)) is not None:
            self._attention[address] = lines

    def keep_attention_within(self, name: str, lines: Tensor) -> None:
        """Likewise, of the attention in the named module, whose output is measured next."""
        self._attention_within[name] = lines

    def keep_recurrence_within(self, name: str, found: Mapping[str, Recurrence]) -> None:
        """What happens from step to step in the named module, whose output is measured next."""
        self._recurrence_within[name] = found

    def _add(
        self,
        source: Source,
        call: Call | None,
        y: Tensor,
        pre: int | None,
        post: int,
        live: int | None,
    ) -> None:
        if source.name in self._attention_within:
            self._attention[post] = self._attention_within.pop(source.name)
        if source.name in self._recurrence_within:
            self._recurrence[post] = self._recurrence_within.pop(source.name)
        if "histograms" in self.measure:
            with torch._C.DisableTorchFunction():
                self._histograms[post] = histograms.half_octaves(y)
        if "per_sample" in self.measure and y.dim() > 1:
            with torch._C.DisableTorchFunction():
                self._measure_samples(post, y.detach().flatten(1))
        super()._add(source, call, y, pre, post, live)

    def _measure_samples(self, post: int, samples: Tensor) -> None:
        """Measure each entry of a sample, ``[samples, entries]``, as a unit over the samples."""
        if samples.shape[1]:
            _, units = torch.ops.initfast.unit_moments(samples, 1, False)
            self._rows.add_units([address_per_sample(post)], units, [samples.shape[1]])

    def read(self, *args: Any) -> Recording:
        """Copy everything from the devices."""
        further: dict[int, dict[str, Any]] = {}
        for address, lines in self._attention.items():
            further.setdefault(address, {})["attention"] = attention.read(lines)
        for address, counts in self._histograms.items():
            further.setdefault(address, {})["histogram"] = histograms.read(counts)
        for address, found in self._recurrence.items():
            further.setdefault(address, {})["recurrence"] = found
        return super().read(*args)._replace(further=further)
