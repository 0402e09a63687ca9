"""Runs linear layers and their activations, one operator for each or for a chain of them.

What the operators measured is kept: an event for each layer, and its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from initfast.ops.dispatch import LINEAR_ACT, LINEAR_ACT_CHAIN
from initfast.recording.events import Event, linear_source, new_event
from initfast.recording.gradients import Gradients
from initfast.recording.known_tensors import KnownTensors
from initfast.recording.linear_act_chain import ChainLayer, frozen, run_chain
from initfast.recording.marks import Marks
from initfast.recording.stop_at_nonfinite import Stopping
from initfast.recording.unit_room import MOST_UNITS


class LinearRecorder(KnownTensors):
    """Runs linear layers, and keeps what was measured.

    Args:
        stop_at_nonfinite: look at each row as it arrives, and raise NonFinite after the first
            operator that has a non-finite value.
        gradients: what measures the gradients of a forward that makes a graph.

    Attributes:
        stops: stop_at_nonfinite.
    """

    def __init__(self, stop_at_nonfinite: bool = False, gradients: Gradients | None = None) -> None:
        super().__init__()
        self.stops = stop_at_nonfinite
        self.gradients = gradients
        self._events: list[Event] = []
        self._marks = Marks()
        self._stopping = Stopping(self._events)

    def linear_act(self, x: Tensor, kernels: Any, layer: ChainLayer) -> Tensor:
        """Run a linear layer and its activation as one operator, with these kernels."""
        weight, bias, _, (act, alpha, beta, _), *_ = layer
        x_row = self.row(x, kernels)
        y, _, rows, live = LINEAR_ACT(kernels, x, weight, bias, act, alpha, beta, False)
        pre, mask = self._rows.add(rows, 3), self._rows.add_mask(live)
        self._measure_units(pre + 1, y, kernels, -1)
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
        if y.dim() > 1 and max(widths) <= MOST_UNITS:
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
            self._measure_units(address, found.y, kernels, -1)
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

    def _look(self, address: int, count: int, mask: Tensor | None = None) -> None:
        """Where the profile stops, judge the rows of the last event; of what may be a mask, too."""
        if self.stops:
            of = self._rows
            rows = of.tensor(address, count) if mask is None else of.unmasked(address, mask)
            self._stopping.operator(rows)
