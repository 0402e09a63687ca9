"""The layers of a report, from the events of a tape and the rows that it kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch

from initfast.nets.module_facts import UNHOOKED
from initfast.recording.marks import Marks
from initfast.recording.rows import Copies
from initfast.stats.layer import Layer, Weight
from initfast.stats.moments import Moments


class Event(NamedTuple):
    """One operator: what ran, and the addresses of its rows and mask (see :class:`Rows`)."""

    kind: str  # "linear", "act" (an activation that stands alone), a function or a module's type
    act: tuple[Any, ...] | None  # the activation, its alpha and its beta
    name: str
    input_shape: tuple[int, ...] | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    input: int | None
    pre: int | None
    post: int
    weight: int | None
    live: int | None
    fans: tuple[int, int] | None = None  # of the weight; a linear layer's shapes tell them
    further: tuple[int, ...] = ()  # the rows of its other inputs
    weights: tuple[tuple[str, int, tuple[int, int]], ...] = ()  # names, rows, fans of several


class Recording(NamedTuple):
    """What a tape holds in the end.

    Attributes:
        events: what ran, in order; see :class:`Event`.
        copies: the rows and masks.
        inputs: the addresses of the net's own inputs.
        marks: of the outputs.
        names: of the net's modules.
        types: of each.
        owners: the names of those that have a parameter called weight.
        gradients: by the address of a tensor, those of its gradients, and of what they are scaled
            by if they are.
    """

    events: Sequence[tuple[Any, ...]]
    copies: Copies
    inputs: Sequence[int]
    marks: Marks
    names: Sequence[str]
    types: Sequence[type]
    owners: frozenset[str]
    gradients: Mapping[int, tuple[Sequence[int], int | None]]

    def read(self) -> tuple[list[Layer], list[Moments]]:
        """The layers, and the moments of the net's inputs."""
        rows, masks = self.copies.sort()
        made: dict[int, Moments] = {}

        def moments(address: int) -> Moments:
            if address not in made:
                made[address] = Moments.from_row(rows[address].tolist())
            return made[address]

        types = dict(zip(self.names, self.types, strict=True))
        layers = [self._layer(Event(*event), moments, masks, types) for event in self.events]
        return layers, list(map(moments, self.inputs))

    def _layer(
        self,
        event: Event,
        moments: Callable[[int], Moments],
        masks: list[np.ndarray],
        types: Mapping[str, type],
    ) -> Layer:
        def known(address: int | None) -> Moments | None:
            return None if address is None else moments(address)

        def gradient(address: int | None) -> Moments | None:
            if address is None or address not in self.gradients:
                return None
            found, scale = self.gradients[address]
            total = reduce(Moments.merge, map(moments, found))
            return total if scale is None else total.scaled(1 / moments(scale).mean)

        shape = event.input_shape
        act, alpha, beta = ("identity", None, None) if event.act is None else event.act[:3]
        has_pre = act != "identity"
        if event.kind == "act":
            op = act
        else:
            op = f"{event.kind} + {act}" if has_pre else event.kind
        weight = None
        if event.weight is not None and shape is not None:
            fans = event.fans or (shape[-1], event.shape[-1])
            weight = Weight(*fans, moments(event.weight))
        is_plain = event.act is not None and not has_pre
        live = masks[event.live] if event.live is not None and not is_plain else None
        outputs, replaced = self.marks.modules(event.post), self.marks.replaced.get(event.post, ())
        also = tuple(name for name in outputs if name != event.name)
        kind = types.get(event.name)
        return Layer(
            name=event.name,
            op=op,
            input_shape=None if shape is None else tuple(shape),
            shape=tuple(event.shape),
            dtype=event.dtype,
            post=moments(event.post),
            pre=known(event.pre) if has_pre else None,
            input=known(event.input),
            weight=weight,
            dead_units=None if live is None or 0 in event.shape else int(np.count_nonzero(~live)),
            type=_spelled(kind),
            also=also,
            also_types=tuple(_spelled(types.get(name)) for name in also),
            is_output=event.name not in replaced
            and (event.name in outputs or kind is None or _runs(kind, event.kind)),
            is_returned=event.post in self.marks.returned,
            has_nan=self.marks.has_nan(event.post, masks),
            further_inputs=tuple(map(moments, event.further)),
            units=None if live is None else live.size,
            live=live,
            grad=gradient(event.post),
            weight_grad=gradient(event.weight),
            weights={n: Weight(*fans, moments(at)) for n, at, fans in event.weights},
            weight_grads={n: g for n, at, _ in event.weights if (g := gradient(at)) is not None},
            alpha=alpha if has_pre else None,
            beta=beta if has_pre else None,
            parameter="" if weight is None else self._parameter(event.name, types),
        )

    def _parameter(self, name: str, types: Mapping[str, type]) -> str:
        """The path of a layer's weight; "" where it is no parameter that carries the layer's name.

        Such weights are computed (a parametrised one is), or those of a plain callable, whose
        layers have numbers for names.
        """
        if name in self.owners:
            return f"{name}.weight" if name else "weight"
        is_module = name in types or name.startswith("(")
        return "" if is_module or not types or name.isdigit() else name


def _runs(module: type, kind: str) -> bool:
    """Whether an operator of this kind is all that a module of that type runs, or measured of it.

    Of a module that returns several tensors the kind says which.
    """
    return module in UNHOOKED or kind.partition("[")[0].partition(".")[0] == module.__name__


def _spelled(kind: type | None) -> str:
    return "" if kind is None else kind.__name__
