"""The parts of a layer's tensors that this process holds, from its event."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from initfast.nets.shards import Stage
from initfast.recording.events import Event
from initfast.recording.shared_tensors import SharedTensors
from initfast.stats.parts import LayerParts


def parts_of(
    shared: SharedTensors | None, stage: Stage | None, inputs: Sequence[int]
) -> Callable[[Event], LayerParts | None]:
    """What tells the parts of an event's tensors.

    Args:
        shared: how processes share what was seen; None where one process runs the net.
        stage: of a pipeline; None without one.
        inputs: the addresses of the rows of the net's inputs.
    """
    if shared is None and stage is None:
        return lambda event: None
    shared = shared or SharedTensors()  # of a stage, nothing is shared
    net = shared.net(stage, inputs)

    def of_event(event: Event) -> LayerParts:
        source = event.source
        weights = {name: shared.part(at) for name, at, _ in source.weights}
        if source.weight is not None:
            weights["weight"] = shared.part(source.weight)
        known = tuple(shared.part(at) for at in source.inputs if at is not None)
        units = shared.units(event.post, event.shape, source.unit_dim)
        return LayerParts(net, shared.part(event.post), known, tuple(weights.items()), units)

    return of_event
