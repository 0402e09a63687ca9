"""The layers of a report, from the events of a recorder and the rows that it kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from itertools import compress
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from initfast.nets.activation_calls import Call
from initfast.nets.module_facts import SEEN_INSIDE
from initfast.nets.shards import Stage
from initfast.recording.events import Event, Source
from initfast.recording.facts_at_end import FactsAtEnd
from initfast.recording.marks import Marks
from initfast.recording.parts import parts_of
from initfast.recording.rows import Copies
from initfast.recording.shared_tensors import SharedTensors
from initfast.recording.unit_room import address_per_sample
from initfast.stats.dead_units import count_units
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.unit_moments import units_of_layers
from initfast.stats.weight import Weight


class Recording(NamedTuple):
    """What a recorder holds in the end.

    Attributes:
        events: what ran, in order.
        copies: the rows and masks.
        inputs: the addresses of the net's own inputs.
        marks: of the outputs.
        names: of the net's modules.
        types: of each.
        facts: what of them but their weights decides the scale of their outputs; None where the
            forward did not end.
        own_weight: whether its parameter called weight is the weight that it uses.
        gradients: by the address of a tensor, those of its gradients, and of what they are scaled
            by if they are.
        shared: how processes share what was seen; None where one process runs the net.
        stage: which stage of a pipeline ran; None without one.
        further: by the address of an output, what else was asked for, by attributes of Layer.
    """

    events: Sequence[Event]
    copies: Copies
    inputs: Sequence[int]
    marks: Marks
    names: Sequence[str]
    types: Sequence[type]
    own_weight: Sequence[bool]
    facts: FactsAtEnd | None
    gradients: Mapping[int, tuple[Sequence[int], int | None]]
    shared: SharedTensors | None = None
    stage: Stage | None = None
    further: Mapping[int, Mapping[str, Any]] = MappingProxyType({})

    def read(self) -> tuple[list[Layer], list[Moments]]:
        """The layers, and the moments of the net's inputs."""
        reader = _Reader(self)
        layers = [layer for event in self.events for layer in reader.layers(event)]
        return layers, list(map(reader.moments, self.inputs))


class _Reader:
    """Makes the layers of one recording; each method tells a part of what an event says."""

    def __init__(self, recording: Recording) -> None:
        self._rows, self._masks, _, units, values = recording.copies
        self._units = units_of_layers(units)
        self._marks = recording.marks
        self._types = dict(zip(recording.names, recording.types, strict=True))
        self._owners = frozenset(compress(recording.names, recording.own_weight))
        self._facts = recording.facts
        self._vectors: dict[str, dict[str, Moments]] = {}
        if self._facts is not None:
            self._vectors = self._facts.vectors(values)
        self._gradients = recording.gradients
        self._further = recording.further
        self._makers = {event.post: event.source for event in recording.events}
        self._made: dict[int, Moments] = {}
        self._parts = parts_of(recording.shared, recording.stage, recording.inputs)

    def moments(self, address: int) -> Moments:
        """What the row of this address says; the same object at each time."""
        if address not in self._made:
            self._made[address] = Moments.from_row(self._rows[address].tolist())
        return self._made[address]

    def layers(self, event: Event) -> Iterator[Layer]:
        """The layer that an event tells of, after that of its pre-activation if it has one."""
        activation = event.activation
        if event.pre is not None and (names := self._marks.modules(event.pre)):
            yield self._pre_activation(event, event.pre, names)
        yield Layer(
            **self._what_ran(event, activation),
            **self._what_was_measured(event, activation is not None),
            **self._whose_output(event.source, event.post),
            **self._weights_of(event),
            **self._facts_of(event.source),
            **self._gradients_of(event.source, event.post),
            parts=self._parts(event),
            **self._further.get(event.post, {}),
        )

    def _pre_activation(self, event: Event, pre: int, names: Sequence[str]) -> Layer:
        """What the modules of these names, which end before the activation, have returned."""
        types = [_spelled(self._types.get(name)) for name in names]
        return Layer(
            name=names[0],
            op=types[0] or event.source.kind,
            input_shape=None,
            shape=tuple(event.shape),
            dtype=event.dtype,
            post=self.moments(pre),
            type=types[0],
            bases=tuple(_base(self._types.get(name)) for name in names),
            also=tuple(names[1:]),
            also_types=tuple(types[1:]),
            is_returned=pre in self._marks.returned,
            parts=self._parts(event),
        )

    def _what_ran(self, event: Event, activation: Call | None) -> dict[str, Any]:
        source, shape = event.source, event.source.input_shape
        if source.kind == "act" and event.call is not None:
            op = event.call.act
        else:
            op = source.kind if activation is None else f"{source.kind} + {activation.act}"
        return {
            "name": source.name,
            "op": op,
            "input_shape": None if shape is None else tuple(shape),
            "shape": tuple(event.shape),
            "dtype": event.dtype,
            "alpha": None if activation is None else activation.alpha,
            "beta": None if activation is None else activation.beta,
        }

    def _what_was_measured(self, event: Event, has_activation: bool) -> dict[str, Any]:
        source, post = event.source, self.moments(event.post)
        # Only there infinities may be an attention mask's.
        is_plain = event.call is None and source.weight is None and "Norm" not in source.kind
        live = self._masks[event.live] if has_activation and event.live is not None else None
        units, dead_units = count_units(live, post.count)
        return {
            "input": self._known(source.input),
            "further_inputs": tuple(map(self.moments, source.further_inputs)),
            "pre": self._known(event.pre) if has_activation else None,
            "post": post,
            "has_nan": bool(post.nan) if post.nonfinite and is_plain else None,
            "live": live,
            "units": units,
            "dead_units": dead_units,
            "branch": self._branch(source),
            "unit_moments": self._units.get(event.post),
            "per_sample": self._units.get(address_per_sample(event.post)),
        }

    def _branch(self, source: Source) -> int | None:
        if source.kind != "add":
            return None
        from initfast.recording.residual_sums import branch_of  # of nets that have them

        return branch_of(source, self._makers)

    def _known(self, address: int | None) -> Moments | None:
        return None if address is None else self.moments(address)

    def _whose_output(self, source: Source, post: int) -> dict[str, Any]:
        name = source.name
        module, others = self._types.get(name), self._marks.modules(post)
        also = tuple(other for other in others if other != name)
        was_replaced = name in self._marks.replaced.get(post, ())
        is_all = module is None or _runs(module, source.kind)
        return {
            "type": _spelled(module),
            "bases": tuple(map(_base, (module, *map(self._types.get, also)))),
            "also": also,
            "also_types": tuple(_spelled(self._types.get(other)) for other in also),
            "is_output": not was_replaced and (name in others or is_all),
            "is_returned": post in self._marks.returned,
        }

    def _weights_of(self, event: Event) -> dict[str, Any]:
        source, shape = event.source, event.source.input_shape
        if source.weights:
            of = {name: Weight(*fans, self.moments(at)) for name, at, fans in source.weights}
            return {"weights": of}
        if source.weight is None or shape is None:
            return {}
        fans = source.fans or (shape[-1], event.shape[-1])
        weight = Weight(*fans, self.moments(source.weight))
        return {"weight": weight, "parameter": self._parameter(source.name)}

    def _facts_of(self, source: Source) -> dict[str, Any]:
        module = self._types.get(source.name)
        if self._facts is None or module is None:
            return {}
        settings = self._facts.settings.get(source.name, {})
        if not _runs(module, source.kind):
            made = settings.get("parametrizations")
            return {"settings": {"parametrizations": made}} if made and source.weight else {}
        return {"vectors": self._vectors.get(source.name, {}), "settings": dict(settings)}

    def _parameter(self, name: str) -> str:
        """The path of a layer's weight; "" where it is no parameter that carries the layer's name.

        Such weights are computed (a parametrised one is), or those of a plain callable, whose
        layers have numbers for names.
        """
        if name in self._owners:
            return f"{name}.weight" if name else "weight"
        is_module = name in self._types or name.startswith("(")
        return "" if is_module or not self._types or name.isdigit() else name

    def _gradients_of(self, source: Source, post: int) -> dict[str, Any]:
        if not self._gradients:
            return {}
        of_weights = {name: self._gradient(at) for name, at, _ in source.weights}
        return {
            "grad": self._gradient(post),
            "weight_grad": self._gradient(source.weight),
            "weight_grads": {name: grad for name, grad in of_weights.items() if grad is not None},
        }

    def _gradient(self, address: int | None) -> Moments | None:
        """The moments of the gradients at the tensor of this address, of all backwards together."""
        if address is None or address not in self._gradients:
            return None
        found, scale = self._gradients[address]
        total = reduce(Moments.merge, map(self.moments, found))
        return total if scale is None else total.scaled(1 / self.moments(scale).mean)


def _runs(module: type, kind: str) -> bool:
    """Whether an operator of this kind is all that a module of that type runs, or measured of it.

    Of a module that returns several tensors the kind says which.
    """
    return module in SEEN_INSIDE or kind.partition("[")[0].partition(".")[0] == module.__name__


@cache
def _base(kind: type | None) -> str:
    """The class of torch.nn that a module's type is or derives from."""
    of_torch = (k for k in getattr(kind, "__mro__", ()) if k.__module__.startswith("torch.nn."))
    base = next(of_torch, None)
    return "" if base in (None, nn.Module) else _spelled(base)


def _spelled(kind: type | None) -> str:
    return "" if kind is None else kind.__name__
