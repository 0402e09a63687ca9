"""All the moments of a layer, by the tensors that they are of, taken out and put in again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.parts import LayerParts, Part

GRAD = "grad"
WEIGHT_GRAD = "weight_grad"


class TensorMoments(NamedTuple):
    """The moments of one tensor of a layer.

    Attributes:
        kind: "post", "pre", "input", "weight", GRAD or WEIGHT_GRAD.
        name: of which input or weight: its number, or its name; "" of the others.
        moments: of the part that this process holds.
        part: which part that is.
    """

    kind: str
    name: str
    moments: Moments
    part: Part

    @property
    def is_of_weight(self) -> bool:
        """Whether processes that work on other batches have the same."""
        return self.kind in ("weight", WEIGHT_GRAD)


def tensors_of(layer: Layer) -> Iterator[TensorMoments]:
    """The moments of a layer that are known, always in the same order."""
    parts = layer.parts or LayerParts()
    for kind, moments in (("post", layer.post), ("pre", layer.pre), (GRAD, layer.grad)):
        if moments is not None:
            yield TensorMoments(kind, "", moments, parts.output)
    known, part_of = dict(enumerate(parts.inputs)), dict(parts.weights)
    for i, moments in enumerate(layer.inputs):
        yield TensorMoments("input", str(i), moments, known.get(i, Part()))
    weights = dict(layer.weights) if layer.weight is None else {"weight": layer.weight}
    grads = dict(layer.weight_grads)
    if layer.weight_grad is not None:
        grads["weight"] = layer.weight_grad
    for name, weight in weights.items():
        part = part_of.get(name, Part())
        yield TensorMoments("weight", name, weight.moments, part)
        if name in grads:
            yield TensorMoments(WEIGHT_GRAD, name, grads[name], part)


def with_moments(layer: Layer, found: Mapping[tuple[str, str], Moments | None]) -> Layer:
    """The layer with other moments.

    Args:
        layer: of one process.
        found: for each of :func:`tensors_of`, by kind and name. None: not known, of gradients.
    """
    inputs = [found["input", str(i)] or Moments() for i in range(len(layer.inputs))]
    has_first = layer.input is not None
    weight, grads = layer.weight, {}
    if weight is not None:
        weight = replace(weight, moments=found["weight", "weight"] or Moments())
    for name in layer.weights:
        if (grad := found.get((WEIGHT_GRAD, name))) is not None:
            grads[name] = grad
    return replace(
        layer,
        post=found["post", ""] or Moments(),
        pre=found.get(("pre", "")),
        grad=found.get((GRAD, "")),
        input=inputs[0] if has_first else None,
        further_inputs=tuple(inputs[has_first:]),
        weight=weight,
        weight_grad=None if weight is None else found.get((WEIGHT_GRAD, "weight")),
        weights={
            name: replace(one, moments=found["weight", name] or Moments())
            for name, one in layer.weights.items()
        },
        weight_grads=grads,
    )
