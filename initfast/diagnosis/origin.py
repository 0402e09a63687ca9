"""Where the first non-finite value of a net comes from, in words."""

from __future__ import annotations

from collections.abc import Sequence

from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import number, printable


def origin(layers: Sequence[Layer], inputs: Sequence[Moments], at: int | None = None) -> str:
    """Who made the first NaN or infinity: a layer, its parameters, the net's input, or plain code.

    Args:
        layers: of a report, in execution order.
        inputs: the moments of the net's own inputs.
        at: the place of the layer; None: of the first that has a NaN or an infinity.

    Returns:
        A sentence or two; "" where every value is finite.
    """
    i = next((i for i, layer in enumerate(layers) if layer.has_nonfinite), None)
    i = i if at is None else at
    if i is None:
        return ""
    layer = layers[i]
    where = "output" if layer.post.nonfinite else "pre-activation"
    what = f"The first non-finite value: in the {where} of {_name(layer)}"
    cause = _cause(layer, layers[i - 1] if i else None, inputs)
    kind = {None: [], True: ["NaN is among them"], False: ["they are infinities"]}[layer.has_nan]
    return "; ".join([what, *kind, *_ranges(layer)]) + "." + cause


def _cause(layer: Layer, before: Layer | None, inputs: Sequence[Moments]) -> str:
    """Why a layer's output is not finite though everything measured before was."""
    if layer.nonfinite_parameters:
        them = ", ".join(layer.nonfinite_parameters)
        return f" They were in its parameters already: {them}."
    if layer.weight is not None and layer.weight.moments.nonfinite:
        return " They were in its weight already."
    bad = {_count(m) for m in layer.inputs if m.nonfinite}
    given = {_count(m) for m in inputs if m.nonfinite}
    if not bad:
        return ""
    if bad <= given:
        return " They were in the net's own input already."
    after = "before the first layer" if before is None else f"after {_name(before)}"
    made = "made them, or passed on what the net's own input has of them" if given else "made them"
    return (
        f" They were in its input already: plain code {made}, {after}; "
        "profile(..., stop_at_nonfinite=True) names the function."
    )


def _count(m: Moments) -> tuple[int, int]:
    """What stays the same of the non-finite values where a tensor is reshaped, scaled or cast."""
    return m.count, m.nonfinite


def _name(layer: Layer) -> str:
    name = repr(printable(layer.name)) if layer.name else "the net itself"
    return f"{name} ({printable(layer.op)})"


def _ranges(layer: Layer) -> list[str]:
    """What its inputs and weight are like."""
    ranges = [f"input {_range(moments)}" for moments in layer.inputs]
    return ranges + ([] if layer.weight is None else [f"weight {_range(layer.weight.moments)}"])


def _range(moments: Moments) -> str:
    """The range of finite values, and the count of others."""
    bad = f"{moments.nonfinite} of {moments.count} non-finite" if moments.nonfinite else ""
    if not moments.finite:
        return bad or "empty"
    finite = f"{number(moments.min)} to {number(moments.max)}"
    return f"{finite} and {bad}" if bad else finite
