"""The numbers of a report as a flat dict, as TensorBoard, W&B and other loggers take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.outcome import NO_OUTCOME, Update
from initfast.stats.unit_moments import OF_UNITS

PREFIX = "initfast"
"""What every tag begins with."""


def scalars_of(
    layers: Sequence[Layer],
    prefix: str = PREFIX,
    updates: Mapping[str, Update] = NO_OUTCOME.updates,
) -> dict[str, float]:
    """The numbers of a report's layers by tag: ``{"initfast/activations/0/std": 0.57, ...}``.

    A tag is `prefix/kind/NAME/statistic`. The kinds are "activations", "pre_activations",
    "gradients" (at the output), "weights" and "weight_gradients", and "attention", "per_sample" and
    "recurrence" where they were asked for.
    NAME is the module's path, "net" for the net itself; what a function has made within a module is
    "NAME:op", a further row of the same name "NAME:2"; of several weights each is "NAME.parameter".

    Args:
        layers: of a report.
        prefix: what every tag begins with.
        updates: of an optimiser's step, by the parameters' names: `prefix/updates/PARAMETER` has
            "to_weight" and "gradient".

    Example:
        >>> report = initfast.profile(torch.nn.Linear(4, 2), torch.ones(3, 4))
        >>> sorted(scalars_of(report.layers))[0]
        'initfast/activations/net/batch_std'
    """
    found: dict[str, float] = {}
    for layer, name in zip(layers, _names(layers), strict=True):
        for path, value in _numbers(layer, name):
            found[f"{prefix}/{path}"] = float(value)
    for name, update in updates.items():
        for what, value in update._asdict().items():
            found[f"{prefix}/updates/{name}/{what}"] = value
    return found


def _names(layers: Sequence[Layer]) -> Iterator[str]:
    """A name for each row, different from all others."""
    taken: set[str] = set()
    for layer in layers:
        name = layer.name or "net"
        name = first = name if layer.is_output else f"{name}:{layer.op}"
        count = 1
        while name in taken:
            count += 1
            name = f"{first}:{count}"
        taken.add(name)
        yield name


def _numbers(layer: Layer, name: str) -> Iterator[tuple[str, float]]:
    for statistic in ("mean", "std", "rms", "min", "max", "zeros", "saturated", "nonfinite"):
        yield f"activations/{name}/{statistic}", getattr(layer, statistic)
    for statistic in ("dead_units", *OF_UNITS, "branch_ratio", "branch_cosine"):
        if (value := getattr(layer, statistic)) is not None:
            yield f"activations/{name}/{statistic}", value
    for statistic in ("correlation", "batch_std") if layer.per_sample else ():
        if (value := getattr(layer.per_sample, statistic)) is not None:
            yield f"per_sample/{name}/{statistic}", value
    for statistic in ("largest_logit", "logit_std", "entropy") if layer.attention else ():
        yield f"attention/{name}/{statistic}", getattr(layer.attention, statistic)
    for part, found in (layer.recurrence or {}).items():
        for statistic in ("spectral_radius", "first_gradient"):
            yield f"recurrence/{name}.{part}/{statistic}", getattr(found, statistic)
        for gate, told in found.gates.items():
            yield f"recurrence/{name}.{part}/{gate}_saturated", told.saturated
    if layer.pre is not None:
        yield from _of("pre_activations", name, layer.pre)
    if layer.grad is not None:
        yield from _of("gradients", name, layer.grad)
    if layer.weight is not None:
        yield from _of("weights", name, layer.weight.moments)
    if layer.weight_grad is not None:
        yield from _of("weight_gradients", name, layer.weight_grad)
    for parameter, weight in layer.weights.items():
        yield from _of("weights", f"{name}.{parameter}", weight.moments)
    for parameter, grad in layer.weight_grads.items():
        yield from _of("weight_gradients", f"{name}.{parameter}", grad)


def _of(kind: str, name: str, moments: Moments) -> Iterator[tuple[str, float]]:
    for statistic in ("mean", "std", "rms"):
        yield f"{kind}/{name}/{statistic}", getattr(moments, statistic)
