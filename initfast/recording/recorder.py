"""What a profile measured: rows of moments that stay on their device until the end.

The tape is written once for each operator while the net runs and read once afterwards: one copy
from each device, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from initfast.nets.activation_calls import Call
from initfast.ops.dispatch import (
    ACT,
    ACT_IN_PLACE,
    LINEAR_ACT,
    LINEAR_ACT_CHAIN,
    MOMENTS,
    has_memory,
    kernels_of,
)
from initfast.ops.functions import count_write
from initfast.recording.known_tensors import Measured
from initfast.recording.layers import Recording
from initfast.recording.marks import Marks
from initfast.recording.rows import Rows
from initfast.recording.stop_at_nonfinite import Stopping

if TYPE_CHECKING:
    from initfast.recording.gradients import Gradients

Linear = tuple[Tensor, Tensor, "Tensor | None", Any, str]
"""A linear layer's call: x, weight, bias, the kernels' dispatch key, its name."""

ChainLayer = tuple[Tensor, "Tensor | None", str, Call, Sequence[str]]
"""One of a chain: weight, bias, name, activation, the modules whose output the result is too."""


class Source(NamedTuple):
    """What made a tensor, and the addresses of what it was made of."""

    kind: str
    name: str
    input_shape: torch.Size | None = None
    inputs: tuple[int | None, ...] = ()
    weight: int | None = None
    fans: tuple[int, int] | None = None
    unit_dim: int = -1
    weights: tuple[tuple[str, int, tuple[int, int]], ...] = ()  # where there are several


class Tape(Measured):
    """Runs the operators, and keeps what they measured, of which tensors and for which layers.

    Args:
        stop_at_nonfinite: look at each row as it arrives, and raise
            :class:`initfast.recording.stop_at_nonfinite.NonFinite` after the first operator that
            has a non-finite value.
        gradients: what measures the gradients of a forward that makes a graph.

    Attributes:
        stops: stop_at_nonfinite.
    """

    def __init__(self, stop_at_nonfinite: bool = False, gradients: Gradients | None = None) -> None:
        super().__init__()
        self.stops = stop_at_nonfinite
        self.gradients = gradients
        self._events: list[tuple[Any, ...]] = []
        self._rows = Rows()
        # By address: what was measured as an input only, as far as one looks at the rows already.
        self._inputs: dict[int, Tensor] = {}
        self._net_inputs: list[int] = []
        self._marks = Marks()
        self._stopping = Stopping(self._events)
        self._glimpsed: set[int] = set()  # addresses of what is not a layer's

    # ---- running and writing ----

    def linear_act(
        self, layer: Linear, act: str, alpha: float, beta: float, also: Sequence[str] = ()
    ) -> Tensor:
        """Run a linear layer and its activation ("identity": none) as one operator.

        The result is the output of the modules in `also` too.
        """
        x, weight, bias, key, name = layer
        x_row = self.row(x, key)
        y, _, rows, live = LINEAR_ACT(key, x, weight, bias, act, alpha, beta, False)
        pre = self._rows.add(rows, 3)
        call = act, alpha, beta
        event = ("linear", call, name, x.shape, y.shape, y.dtype, x_row, pre, pre + 1, pre + 2)
        self._events.append((*event, self._rows.add_mask(live)))
        self.keep(y, pre + 1)
        if also:
            self._marks.also[pre + 1] = [*also]
        if self.stops:
            self._stopping.operator(rows)
        return y

    def linear_act_chain(self, x: Tensor, key: Any, layers: Sequence[ChainLayer]) -> Tensor:
        """Run linear layers and their activations, each the next one's input, as one operator.

        Args:
            x: the first one's input.
            key: the kernels' dispatch key.
            layers: in their order.

        Returns:
            The last result.
        """
        if self.stops:
            for weight, bias, name, call, also in layers:
                x = self.linear_act((x, weight, bias, key, name), *call[:3], also)
            return x
        weights, biases, names, calls, others = zip(*layers, strict=True)
        acts, alphas, betas, _ = zip(*calls, strict=True)
        x_row, dtype = self.row(x, key), x.dtype
        y, rows, live = LINEAR_ACT_CHAIN(key, x, weights, biases, acts, alphas, betas)
        row = self._rows.add(rows.view(-1, 8), 3 * len(layers))
        leading = tuple(x.shape[:-1])
        shapes = [x.shape, *((*leading, weight.shape[0]) for weight in weights)]
        mask = self._rows.add_mask(live, [shape[-1] for shape in shapes[1:]])
        for i, (call, name, also) in enumerate(zip(calls, names, others, strict=True)):
            head = ("linear", call, name, shapes[i], shapes[i + 1], dtype, x_row, row, row + 1)
            self._events.append((*head, row + 2, mask + i))
            if also:
                self._marks.also[row + 1] = [*also]
            x_row = row + 1
            row += 3
        self.keep(y, row - 2)
        return y

    def linear_act_with_graph(self, x: Tensor, key: Any, layers: Sequence[ChainLayer]) -> Tensor:
        """The same with a graph, whose backward measures the gradients."""
        frozen = 0 if x.requires_grad else _frozen(layers)
        if frozen:
            x = self.linear_act_chain(x, key, layers[:frozen])
        step = 1 if self.stops else len(layers)
        for first in range(frozen, len(layers), step):
            x = self._graph(x, key, layers[first : first + step])
        return x

    def _graph(self, x: Tensor, key: Any, layers: Sequence[ChainLayer]) -> Tensor:
        gradients = self.gradients
        assert gradients is not None
        weights, biases, names, calls, others = zip(*layers, strict=True)
        x_row, row = self.row(x, key), self._rows.count
        shape, dtype = tuple(x.shape), x.dtype
        addresses = range(row + 1, row + 3 * len(layers), 3)
        y, measured = gradients.linear_act_chain(x, key, weights, biases, calls, addresses)
        for weight, name, call, also, (rows, live) in zip(
            weights, names, calls, others, measured, strict=True
        ):
            self._rows.add(rows, 3)
            gradients.weight(row + 2, weight)
            after = (*shape[:-1], weight.shape[0])
            event = ("linear", call, name, shape, after, dtype, x_row, row, row + 1, row + 2)
            self._events.append((*event, self._rows.add_mask(live)))
            if also:
                self._marks.also[row + 1] = [*also]
            if self.stops:
                self._stopping.operator(rows)
            x_row, row, shape = row + 1, row + 3, after
        self.keep(y, row - 2)
        return y

    def act(
        self,
        source: Source,
        key: Any,
        z: Tensor,
        act: str,
        alpha: float,
        beta: float,
        in_place: bool = False,
        function: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """Run an activation of z, which the source made.

        Where a function is given it makes the result, and the operator only measures.
        """
        if in_place and function is None:
            rows, live = ACT_IN_PLACE(key, z, act, alpha, beta, source.unit_dim)
            count_write(z)
            y = z
        else:
            y, rows, live = ACT(key, z, act, alpha, beta, source.unit_dim)
            y = y if function is None else function()
        pre = self._rows.add(rows, 2)
        if y is not z and self.find(z) is None:
            self.keep(z, pre)
        self.keep(y, pre + 1)
        if source.kind == "act":
            source = Source("act", source.name, z.shape, (pre,))
        self._record(source, (act, alpha, beta), y, pre, pre + 1, self._rows.add_mask(live), rows)
        return y

    def output(self, source: Source, y: Tensor, key: Any = None) -> None:
        """Measure an output; one that is measured already is that of a further module.

        What cannot be measured is left out.

        Args:
            source: what made y.
            y: any tensor.
            key: its kernels' dispatch key, if the caller has it.
        """
        address = self.find(y)
        if address is None:
            if (rows := self._moments(y, key or kernels_of(y))) is None:
                return
            address = self.keep(y, self._rows.add(rows, 1))
        elif address in self._inputs:
            rows = self._inputs.pop(address)
            self._glimpsed.discard(address)
        else:
            self.also_at(address, source.name)
            return
        self._record(source, None, y, None, address, None, rows)

    def also(self, name: str, y: Tensor) -> None:
        """The output y is that of the module of this name too."""
        if (address := self.find(y)) is not None:
            self.also_at(address, name)

    def also_at(self, address: int, name: str) -> None:
        """Likewise, of the output whose row has this address."""
        self._marks.also.setdefault(address, []).append(name)

    def replaced(self, name: str) -> tuple[int | None, torch.Size | None]:
        """The last output of the named module is that no more: a hook has put another for it.

        Returns:
            The address of its row, and its shape; None where there is none.
        """
        for event in reversed(self._events):
            shape, address = event[4], event[8]
            if event[2] == name or name in self._marks.also.get(address, ()):
                self._marks.replaced.setdefault(address, []).append(name)
                return address, shape
        return None, None

    def net_input(self, x: Tensor) -> None:
        """Measure an input of the net itself."""
        if (address := self.row(x)) is not None:
            self._net_inputs.append(address)

    def net_output(self, y: Tensor) -> None:
        """The net returns y."""
        if (address := self.find_layer(y)) is not None:
            self._marks.returned.add(address)

    def row(self, t: Tensor, key: Any = None) -> int | None:
        """The address of t's row, measured now unless it is known; None where it cannot be.

        Args:
            t: any tensor.
            key: its kernels' dispatch key, if the caller has it.
        """
        address = self.find(t)
        if address is not None or (key is None and (key := kernels_of(t)) is None):
            if self._glimpsed and address is not None:
                self._glimpsed.discard(address)
            return address
        if (rows := self._moments(t, key)) is None:
            return None
        address = self.keep(t, self._rows.add(rows, 1))
        self._inputs[address] = rows
        return address

    def _moments(self, t: Tensor, key: Any) -> Tensor | None:
        """Its row, measured with the kernels of this key; None where it cannot be."""
        return MOMENTS(key, t) if key is not None and has_memory(t) else None

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
        rows = [
            (name, row, fans)
            for name, (weight, fans) in weights.items()
            if (row := self.weight(weight)) is not None
        ]
        if len(rows) == 1:
            return source._replace(weight=rows[0][1], fans=rows[0][2])
        return source._replace(weights=tuple(rows))

    def find_layer(self, t: Tensor) -> int | None:
        """As :meth:`find`, and None where only a function that is no layer made or took it."""
        address = self.find(t)
        return None if address in self._glimpsed else address

    def is_reported(self, t: Tensor) -> bool:
        """Whether t is a layer's output or an input of the net, not just what a layer took."""
        address = self.find_layer(t)
        return address is not None and (address not in self._inputs or address in self._net_inputs)

    def _record(
        self,
        source: Source,
        act: tuple[str, float, float] | None,
        y: Tensor,
        pre: int | None,
        post: int,
        live: int | None,
        rows: Tensor,
    ) -> None:
        kind, name, shape, inputs, weight, fans, _, weights = source
        first = inputs[0] if inputs else None
        further = tuple(i for i in inputs[1:] if i is not None) if len(inputs) > 1 else ()
        event = (kind, act, name, shape, y.shape, y.dtype, first, pre, post, weight, live)
        self._events.append((*event, fans, further, weights))
        if act is None and weight is None and "Norm" not in kind:
            # Here infinities may be a mask's.
            self._marks.look_for_nan(post, rows, y, self._rows)
        if self.gradients is not None:
            self.gradients.output(post, y)
        if self.stops:
            self._stopping.operator(rows)

    # ---- stopping ----

    def glimpse(self, t: Tensor) -> int | None:
        """The address of the row of what a function took or made, measured now if need be."""
        if (address := self.find(t)) is None and (address := self.row(t)) is not None:
            self._glimpsed.add(address)
        return address

    def function(self, source: Source, y: Tensor) -> None:
        """Where the profile stops at the first non-finite value, see whether a function made it."""
        address = self.glimpse(y)
        rows = None if address is None else self._inputs.get(address)
        if address is None or rows is None:
            return
        kind, name, shape, inputs, *_ = source
        further = tuple(i for i in inputs[1:] if i is not None)
        first = inputs[0] if inputs else None
        event = (kind, None, name, shape, y.shape, y.dtype, first, None, address, None, None)
        self._stopping.function((*event, None, further), inputs, rows)

    def finish(self) -> None:
        """Where the profile stops, see what the forward has measured to the last row."""
        if self.stops:
            self._stopping.wait()

    # ---- reading ----

    def read(self, names: Sequence[str], modules: Sequence[nn.Module]) -> Recording:
        """Copy everything from the devices.

        Making the layers takes ten times as long as copying their numbers, so it waits until
        somebody looks at them.

        Args:
            names: of the net's modules.
            modules: likewise.
        """
        gradients = {} if self.gradients is None else self.gradients.addresses(self._rows)
        events, copies = self._events[: self._stopping.end], self._rows.read()
        types = [type(module) for module in modules]
        has_own = ("weight" in module._parameters for module in modules)
        owners = frozenset(compress(names, has_own))
        head = events, copies, self._net_inputs, self._marks
        return Recording(*head, names, types, owners, gradients)


def _frozen(layers: Sequence[ChainLayer]) -> int:
    """How many layers there are before the first that requires a gradient."""
    for i, (weight, bias, *_) in enumerate(layers):
        if weight.requires_grad or (bias is not None and bias.requires_grad):
            return i
    return len(layers)
