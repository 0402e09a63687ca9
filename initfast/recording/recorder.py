"""Runs a net's operators and keeps what they measured: an event for each, and its rows.

An event is written while the net runs; the rows stay on their device until all are read afterwards,
in one copy from each device, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from initfast.nets.activation_calls import Call
from initfast.nets.shards import Stage
from initfast.ops.dispatch import ACT, ACT_IN_PLACE, kernels_of
from initfast.ops.functions import count_write
from initfast.recording.events import Source, new_event
from initfast.recording.facts_at_end import FactsAtEnd
from initfast.recording.gradients import Gradients
from initfast.recording.layers import Recording
from initfast.recording.linear_recorder import LinearRecorder


class Recorder(LinearRecorder):
    """Runs the operators, and keeps what they measured, of which tensors and for which layers.

    Args:
        stop_at_nonfinite: look at each row as it arrives, and raise NonFinite after the first
            operator that has a non-finite value.
        gradients: what measures the gradients of a forward that makes a graph.

    Attributes:
        before_write: is told what a function is about to write to, or to lend to writers.
        stage: which stage of a pipeline runs; None without one.
    """

    def __init__(self, stop_at_nonfinite: bool = False, gradients: Gradients | None = None) -> None:
        super().__init__(stop_at_nonfinite, gradients)
        self.before_write: Callable[[Any], None] | None = None
        self.stage: Stage | None = None

    # ---- running and writing ----

    def act(
        self,
        source: Source,
        kernels: Any,
        z: Tensor,
        call: Call,
        function: Callable[[], Tensor] | None = None,
        pre_also: Sequence[str] = (),
    ) -> Tensor:
        """Run an activation of z, which the source made; a function makes the result if given.

        z is the output of the modules in `pre_also`.
        """
        (act, alpha, beta, in_place), unit_dim = call, source.unit_dim
        if in_place and function is None:
            rows, live = ACT_IN_PLACE(kernels, z, act, alpha, beta, unit_dim)
            count_write(z)
            y = z
        else:
            y, rows, live = ACT(kernels, z, act, alpha, beta, unit_dim)
            if function is not None:
                del y  # so that there are not two at a time
                y = function()
        pre = self._rows.add(rows, 2)
        if pre_also:
            self._marks.also[pre] = [*pre_also]
        if y is not z and self.find(z) is None:
            self.keep(z, pre)
        self.keep(y, pre + 1)
        if source.kind == "act":
            source = Source("act", source.name, z.shape, (pre,))
        self._measure_units(pre + 1, y, kernels, unit_dim)
        self._add(source, call, y, pre, pre + 1, self._rows.add_mask(live))
        return y

    def output(self, source: Source, y: Tensor, kernels: Any = None) -> None:
        """Measure an output; one that is measured already is that of a further module.

        What cannot be measured is left out.

        Args:
            source: what made y.
            y: any tensor.
            kernels: its kernels' dispatch key, if the caller has it.
        """
        address = self.find(y)
        if address is None:
            kernels = kernels or kernels_of(y)
            if (address := self._measure(y, kernels, source.unit_dim)) is None:
                return
        elif address in self._inputs:
            self._inputs.remove(address)
            self._glimpsed.discard(address)
            self._measure_units(address, y, kernels or kernels_of(y), source.unit_dim)
        else:
            self._marks.add(address, source.name)
            return
        self._add(source, None, y, None, address, None)

    def also(self, name: str, y: Tensor) -> None:
        """The output y is that of the module of this name too."""
        if (address := self.find(y)) is not None:
            self._marks.add(address, name)

    def replaced(self, name: str) -> tuple[int | None, tuple[int, ...] | None]:
        """A hook has put another output in the place of the named module's last one.

        Returns:
            The address of its row, and its shape; None where there is none.
        """
        for event in reversed(self._events):
            also = self._marks.also.get(event.post, ())
            if event.source.name == name or name in also:
                self._marks.replaced.setdefault(event.post, []).append(name)
                return event.post, event.shape
        return None, None

    def net_output(self, y: Tensor) -> None:
        """The net returns y."""
        if (address := self.find_layer(y)) is not None:
            self._marks.returned.add(address)

    def weight(self, weight: Tensor) -> int | None:
        """The address of a weight's row; its gradient is measured too where a graph is made."""
        address = self.row(weight)
        if self.gradients is not None and address is not None:
            self.gradients.weight(address, weight)
        return address

    def with_weights(
        self, source: Source, weights: Mapping[str, tuple[Tensor, tuple[int, int]]]
    ) -> Source:
        """The source with these weights, each by its name with its fans, measured."""
        found = [
            (name, address, fans)
            for name, (weight, fans) in weights.items()
            if (address := self.weight(weight)) is not None
        ]
        if len(found) == 1:
            return source._replace(weight=found[0][1], fans=found[0][2])
        return source._replace(weights=tuple(found))

    def _add(
        self,
        source: Source,
        call: Call | None,
        y: Tensor,
        pre: int | None,
        post: int,
        live: int | None,
    ) -> None:
        """Add the event of an operator that has made y."""
        self._events.append(new_event(source, call, y.shape, y.dtype, pre, post, live))
        if self.gradients is not None:
            self.gradients.output(post, y)
        if self.stops:
            may_be_mask = call is None and source.weight is None and "Norm" not in source.kind
            first, count = (post, 1) if pre is None else (pre, 2)
            self._look(first, count, y if may_be_mask else None)

    # ---- stopping ----

    def function(self, source: Source, y: Tensor) -> None:
        """Where the profile stops at the first non-finite value, see whether a function made it."""
        address = self.glimpse(y)
        if address is None or address not in self._inputs:
            return
        event = new_event(source, None, y.shape, y.dtype, None, address, None)
        self._stopping.function(event, self._rows.unmasked(address, y))

    def finish(self) -> None:
        """Where the profile stops, see what the forward has measured to the last row."""
        self._stopping.wait()

    # ---- reading ----

    def add_number(self, x: Tensor) -> None:
        """Keep a tensor of one number, after those that were kept before."""
        self._rows.add_number(x)

    def read(
        self,
        names: list[str],
        modules: list[nn.Module],
        own: list[bool],
        facts: FactsAtEnd | None,
    ) -> Recording:
        """Copy everything from the devices.

        Making the layers takes ten times as long as copying their numbers, so it waits until
        somebody looks at them.

        Args:
            names: of the net's modules.
            modules: likewise.
            own: for each, whether its parameter called weight is the weight that it uses.
            facts: what of them but their weights decides the scale of their outputs; None where
                the forward did not end.
        """
        gradients = {} if self.gradients is None else self.gradients.addresses(self._rows)
        events, copies = self._events[: self._stopping.end], self._rows.read()
        types = [type(module) for module in modules]
        head = events, copies, self._net_inputs, self._marks
        shared = self.shared, self.stage
        return Recording(*head, names, types, own, facts, gradients, *shared)
