"""The layers of several batches, or of several ranks, made one.

Merged are the statistics, those of units too, exactly (Chan, Golub & LeVeque 1979), and the masks
that tell dead units: the merged layers are those of one batch which holds all the others. A layer's
counterpart is the one of the same name, operator and call, in the same stage of a pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from initfast.stats.dead_units import count_units
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.unit_moments import UnitMoments, UnitStatistics

if TYPE_CHECKING:
    from initfast.stats.attention import Attention
    from initfast.stats.histogram import Histogram
    from initfast.stats.recurrence import Recurrence

Key = tuple[int, str, str, int]
"""Of a layer: its pipeline's stage, or -1; its name, its operator, and which of their calls."""

T = TypeVar("T")
M = TypeVar("M", "Moments", "Attention", "Histogram")
Units = UnitMoments | UnitStatistics | None


def merge_layers(first: Sequence[Layer], second: Sequence[Layer]) -> list[Layer]:
    """The layers of both, in execution order, each merged with its counterpart if it has one.

    The weight is the second's, as it is the later one.
    """
    merged = dict(calls_of(first))
    new: dict[Key | None, list[Layer]] = {}  # by the counterpart that ran before
    last = None
    for key, layer in calls_of(second):
        if key in merged:
            merged[key], last = merge_layer(merged[key], layer), key
        else:
            new.setdefault(last, []).append(layer)
    layers = new.get(None, [])
    for key, layer in merged.items():
        layers += [layer, *new.get(key, ())]
    return layers


def calls_of(layers: Sequence[Layer]) -> Iterator[tuple[Key, Layer]]:
    """Each layer with its key."""
    seen: Counter[tuple[int, str, str]] = Counter()
    for layer in layers:
        what = stage_of(layer), layer.name, layer.op
        yield (*what, seen[what]), layer
        seen[what] += 1


def stage_of(layer: Layer) -> int:
    """Which stage of a pipeline ran it, counted from 0; -1 without one."""
    stage = None if layer.parts is None else layer.parts.net.stage
    return -1 if stage is None else stage


def merge_layer(a: Layer, b: Layer) -> Layer:
    """One layer of the numbers of both: what it would be if both batches had been one."""
    live = None
    if a.live is not None and b.live is not None and a.live.shape == b.live.shape:
        live = a.live | b.live
    post = a.post.merge(b.post)
    units, dead_units = count_units(live, post.count)
    return replace(
        a,
        input_shape=_together(a.input_shape, b.input_shape),
        shape=_together(a.shape, b.shape) or (),
        post=post,
        unit_moments=_of_units(a.unit_moments, b.unit_moments),
        per_sample=_of_units(a.per_sample, b.per_sample),
        pre=_both(a.pre, b.pre),
        input=_both(a.input, b.input),
        weight=b.weight or a.weight,
        live=live,
        units=units,
        dead_units=dead_units,
        further_inputs=pairwise(a.further_inputs, b.further_inputs),
        also=tuple(dict.fromkeys(a.also + b.also)),
        also_types=_also_types(a, b),
        is_output=a.is_output or b.is_output,
        is_returned=a.is_returned or b.is_returned,
        has_nan=a.has_nan or b.has_nan,
        nonfinite_parameters=a.nonfinite_parameters or b.nonfinite_parameters,
        grad=_both(a.grad, b.grad),
        weight_grad=_both(a.weight_grad, b.weight_grad),
        attention=_if_both(a.attention, b.attention),
        histogram=_if_both(a.histogram, b.histogram),
        recurrence=_by_direction(a.recurrence, b.recurrence),
        weights=b.weights or a.weights,
        vectors=a.vectors if b.vectors is None else b.vectors,
        weight_grads={
            name: found
            for name in {**a.weight_grads, **b.weight_grads}
            if (found := _both(a.weight_grads.get(name), b.weight_grads.get(name))) is not None
        },
    )


def _of_units(a: Units, b: Units) -> UnitMoments | None:
    """The moments of the units of both; None where a file kept only what they told."""
    return a.merge(b) if isinstance(a, UnitMoments) and isinstance(b, UnitMoments) else None


def _also_types(a: Layer, b: Layer) -> tuple[str, ...]:
    types = dict(zip(b.also, b.also_types, strict=False))
    new = [types.get(name, "") for name in b.also if name not in a.also]
    return a.also_types + tuple(new)


def _both(a: M | None, b: M | None) -> M | None:
    return a.merge(b) if a is not None and b is not None else a or b


def _if_both(a: M | None, b: M | None) -> M | None:
    """None where one batch has none: what the other has is not of all values."""
    return None if a is None or b is None else a.merge(b)


def _by_direction(
    a: Mapping[str, Recurrence] | None, b: Mapping[str, Recurrence] | None
) -> dict[str, Recurrence] | None:
    if a is None or b is None:
        return None
    return {name: each.merge(b[name]) for name, each in a.items() if name in b}


def pairwise(a: tuple[Moments, ...], b: tuple[Moments, ...]) -> tuple[Moments, ...]:
    """Each merged with its counterpart; a where there are not as many."""
    return tuple(map(Moments.merge, a, b)) if len(a) == len(b) else a


def _together(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The shape of both along the batch, the first dimension; a where they do not fit."""
    if not a or not b or a[1:] != b[1:]:
        return a
    return (a[0] + b[0], *a[1:])


def with_shared_loss(merged: Sequence[Layer], ranks: Sequence[Sequence[Layer]]) -> list[Layer]:
    """The merged layers of ranks, with the gradients of the mean of the ranks' losses.

    The gradient at an output is the rank's own over the number of ranks. A weight's gradient that
    all ranks share, as they do under DistributedDataParallel, counts once.
    """
    by_rank = [dict(calls_of(layers)) for layers in ranks]

    def once(grads: Sequence[T], merged: T) -> T:
        # By their spelling: no NaN equals another.
        return grads[0] if len(set(map(repr, grads))) == 1 else merged

    def shared(key: Key, layer: Layer) -> Layer:
        own = [rank[key] for rank in by_rank if key in rank]
        return replace(
            layer,
            grad=layer.grad and layer.grad.scaled(1 / len(ranks)),
            weight_grad=once([x.weight_grad for x in own], layer.weight_grad),
            weight_grads=once([x.weight_grads for x in own], layer.weight_grads),
        )

    return [shared(key, layer) for key, layer in calls_of(merged)]
