"""Runs a net's operators and keeps what they measured: an event for each, and its rows.

An event is written while the net runs; the rows stay on their device until all are read afterwards,
in one copy from each device, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from initfast.nets.activation_calls import Call
from initfast.ops.dispatch import ACT, ACT_IN_PLACE, LINEAR_ACT, LINEAR_ACT_CHAIN, kernels_of
from initfast.ops.functions import count_write
from initfast.recording.events import Event, Source, linear_source, new_event
from initfast.recording.gradients import Gradients
from initfast.recording.known_tensors import KnownTensors
from initfast.recording.layers import Facts, Recording
from initfast.recording.linear_act_chain import ChainLayer, frozen, run_chain
from initfast.recording.marks import Marks
from initfast.recording.stop_at_nonfinite import Stopping


class Recorder(KnownTensors):
    """Runs the operators, and keeps what they measured, of which tensors and for which layers.

    Args:
        stop_at_nonfinite: look at each row as it arrives, and raise NonFinite after the first
            operator that has a non-finite value.
        gradients: what measures the gradients of a forward that makes a graph.

    Attributes:
        stops: stop_at_nonfinite.
        before_write: is told what a function is about to write to, or to lend to writers.
        stage: which stage of a pipeline runs, counted from 0; None without one.
    """

    def __init__(self, stop_at_nonfinite: bool = False, gradients: Gradients | None = None) -> None:
        super().__init__()
        self.stops = stop_at_nonfinite
        self.before_write: Callable[[Any], None] | None = None
        self.gradients = gradients
        self.stage: int | None = None
        self._events: list[Event] = []
        self._marks = Marks()
        self._stopping = Stopping(self._events)

    # ---- running and writing ----

    def linear_act(self, x: Tensor, kernels: Any, layer: ChainLayer) -> Tensor:
        """Run a linear layer and its activation as one operator, with these kernels."""
        weight, bias, _, (act, alpha, beta, _), *_ = layer
        x_row = self.row(x, kernels)
        y, _, rows, live = LINEAR_ACT(kernels, x, weight, bias, act, alpha, beta, False)
        pre, mask = self._rows.add(rows, 3), self._rows.add_mask(live)
        self._rows.measure_units(pre + 1, y, kernels, -1)
        return self._add_linears([layer], x, x_row, pre, (mask,), y)

    def linear_act_chain(self, x: Tensor, kernels: Any, layers: Sequence[ChainLayer]) -> Tensor:
        """The last result of linear layers and their activations, run as one operator.

        Args:
            x: the first one's input; each one's output is the next one's.
            kernels: the kernels' dispatch key.
            layers: in their order.
        """
        if self.stops:
            for layer in layers:
                x = self.linear_act(x, kernels, layer)
            return x
        weights, biases, _, calls, *_ = zip(*layers, strict=True)
        acts, alphas, betas, _ = zip(*calls, strict=True)
        x_row = self.row(x, kernels)
        y, rows, live, units = LINEAR_ACT_CHAIN(kernels, x, weights, biases, acts, alphas, betas)
        first = self._rows.add(rows.flatten(0, 1), 3 * len(layers))
        widths = [weight.shape[0] for weight in weights]
        if y.dim() > 1:
            self._rows.add_units(range(first + 1, first + 3 * len(layers), 3), units, widths)
        mask = self._rows.add_mask(live, widths)
        return self._add_linears(layers, x, x_row, first, range(mask, mask + len(layers)), y)

    def linear_act_with_graph(
        self, x: Tensor, kernels: Any, layers: Sequence[ChainLayer]
    ) -> Tensor:
        """The same with a graph, whose backward measures the gradients."""
        done = 0 if x.requires_grad else frozen(layers)
        if done:
            x = self.linear_act_chain(x, kernels, layers[:done])
        step = 1 if self.stops else len(layers)
        for first in range(done, len(layers), step):
            x = self._chain_with_graph(x, kernels, layers[first : first + step])
        return x

    def _chain_with_graph(self, x: Tensor, kernels: Any, layers: Sequence[ChainLayer]) -> Tensor:
        gradients = self.gradients
        assert gradients is not None
        x_row, first = self.row(x, kernels), self._rows.reserve(3 * len(layers))
        addresses = range(first + 1, first + 3 * len(layers), 3)
        y, measured = run_chain(gradients, x, kernels, layers, addresses)
        for layer, address, found in zip(layers, addresses, measured, strict=True):
            self._rows.put(address - 1, found.rows, 3)
            self._rows.measure_units(address, found.y, kernels, -1)
            gradients.weight(address + 1, layer.weight)
        masks = [self._rows.add_mask(found.live) for found in measured]
        return self._add_linears(layers, x, x_row, first, masks, y)

    def _add_linears(
        self,
        layers: Sequence[ChainLayer],
        x: Tensor,
        x_row: int | None,
        row: int,
        masks: Iterable[int],
        y: Tensor,
    ) -> Tensor:
        """Add the events of linear layers, each the next one's input; returns y.

        Args:
            layers: in their order.
            x, x_row: the first one's input, and the address of its row.
            row: that of the first pre-activation's; its output's and its weight's follow, then the
                next layer's.
            masks: the numbers of the layers' masks.
            y: the last one's result.
        """
        shape: tuple[int, ...] = x.shape
        dtype, leading = x.dtype, shape[:-1]
        for (weight, _, name, call, also, pre_also), mask in zip(layers, masks, strict=True):
            source, shape = linear_source(name, shape, x_row, row + 2), (*leading, weight.shape[0])
            self._events.append(new_event(source, call, shape, dtype, row, row + 1, mask))
            if also:
                self._marks.also[row + 1] = [*also]
            if pre_also:
                self._marks.also[row] = [*pre_also]
            x_row = row + 1
            row += 3
        self.keep(y, row - 2)
        self._look(row - 3, 3)
        return y

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
        self._rows.measure_units(pre + 1, y, kernels, unit_dim)
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

    def _look(self, address: int, count: int, mask: Tensor | None = None) -> None:
        """Where the profile stops, judge the rows of the last event; of what may be a mask, too."""
        if self.stops:
            of = self._rows
            rows = of.tensor(address, count) if mask is None else of.unmasked(address, mask)
            self._stopping.operator(rows)

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
        facts: Mapping[str, Facts] | None,
    ) -> Recording:
        """Copy everything from the devices.

        Making the layers takes ten times as long as copying their numbers, so it waits until
        somebody looks at them.

        Args:
            names: of the net's modules.
            modules: likewise.
            own: for each, whether its parameter called weight is the weight that it uses.
            facts: of those that have some, by their names; None where the forward did not end.
        """
        gradients = {} if self.gradients is None else self.gradients.addresses(self._rows)
        events, copies = self._events[: self._stopping.end], self._rows.read()
        types = [type(module) for module in modules]
        head = events, copies, self._net_inputs, self._marks
        shared = self.shared, self.stage
        return Recording(*head, names, types, own, facts, gradients, *shared)
