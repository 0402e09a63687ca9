"""What the recorder writes while the net runs: an event for each operator."""

from __future__ import annotations

from typing import NamedTuple

import torch

from initfast.nets.activation_calls import Call


class Source(NamedTuple):
    """What made a tensor, with the addresses of the rows of what it was made of.

    Attributes:
        kind: "linear", "act" (an activation that stands alone), a function or a module's type.
        name: the path of its module.
        input_shape: the shape of its first input.
        inputs: the addresses of its inputs' rows, None for what has none.
        weight: the address of its weight's row.
        fans: the fan-in and fan-out of the weight; a linear layer's shapes tell them.
        unit_dim: which dimension of what it makes counts the units.
        weights: where there are several, their names, the addresses of their rows, their fans.
    """

    kind: str
    name: str
    input_shape: tuple[int, ...] | None = None
    inputs: tuple[int | None, ...] = ()
    weight: int | None = None
    fans: tuple[int, int] | None = None
    unit_dim: int = -1
    weights: tuple[tuple[str, int, tuple[int, int]], ...] = ()

    @property
    def input(self) -> int | None:
        """The address of the row of its first input."""
        return self.inputs[0] if self.inputs else None

    @property
    def further_inputs(self) -> tuple[int, ...]:
        """Those of its other inputs, as far as they are measured."""
        further = self.inputs[1:]
        return tuple([i for i in further if i is not None]) if further else ()


class Event(NamedTuple):
    """One operator that ran; :class:`initfast.recording.rows.Rows` keeps its rows and its mask.

    Attributes:
        source: what ran.
        call: the activation that ran with it, "identity" where an operator that could run one ran
            none; None for any other function or module.
        shape, dtype: of its output.
        pre: the address of its pre-activation's row.
        post: the address of its output's row.
        live: the number of the mask of its units that are not zero over the whole batch.
    """

    source: Source
    call: Call | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    pre: int | None
    post: int
    live: int | None

    @property
    def activation(self) -> Call | None:
        """The activation that ran with it; None without one."""
        return None if self.call is None or self.call.act == "identity" else self.call


_new = tuple.__new__


def new_event(
    source: Source,
    call: Call | None,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    pre: int | None,
    post: int,
    live: int | None,
) -> Event:
    """The same as Event(...), in half the time: it is called for every operator that runs."""
    return _new(Event, (source, call, shape, dtype, pre, post, live))


def new_source(
    kind: str,
    name: str,
    input_shape: tuple[int, ...] | None,
    inputs: tuple[int | None, ...],
    unit_dim: int = -1,
) -> Source:
    """A source without weights, likewise."""
    return _new(Source, (kind, name, input_shape, inputs, None, None, unit_dim, ()))


def linear_source(
    name: str, input_shape: tuple[int, ...], input: int | None, weight: int
) -> Source:
    """The source of a linear layer, likewise."""
    return _new(Source, ("linear", name, input_shape, (input,), weight, None, -1, ()))
