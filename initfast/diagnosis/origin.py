"""Where the first non-finite value of a net comes from, in words."""

from __future__ import annotations

from collections.abc import Sequence

from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.nonfinite_source import NonfiniteSource
from initfast.stats.text import number, printable, shorten


def origin(
    layers: Sequence[Layer],
    inputs: Sequence[Moments],
    at: int | None = None,
    source: NonfiniteSource | None = None,
) -> str:
    """Who made the first NaN or infinity: a layer, its parameters, the net's input, or plain code.

    Args:
        layers: of a report, in execution order.
        inputs: the moments of the net's own inputs.
        at: the place of the layer; None: of the one that a second look has explained, or else of
            the first that has a NaN or an infinity.
        source: what that look has found.

    Returns:
        A sentence or two; "" where every value is finite.
    """
    bad = [i for i, layer in enumerate(layers) if layer.has_nonfinite]
    bad = [i for i in bad if explains(source, layers[i])] + bad
    i = next(iter(bad), None) if at is None else at
    if i is None:
        return ""
    layer = layers[i]
    where = "output" if layer.post.nonfinite else "pre-activation"
    what = f"The first non-finite value: in the {where} of {_name(layer)}"
    cause = _cause(layer, layers[i - 1] if i else None, inputs, source)
    kind = {None: [], True: ["NaN is among them"], False: ["they are infinities"]}[layer.has_nan]
    return "; ".join([what, *kind, *_ranges(layer)]) + "." + cause


def explains(source: NonfiniteSource | None, layer: Layer) -> bool:
    """Whether this is where the layer's values begin that are not finite."""
    if source is None or source.seen_in != "layer":
        return False
    return (source.layer, source.op) == (layer.name, layer.op)


def described(source: NonfiniteSource) -> str:
    """What made them, where, of what, and why."""
    at = f" at {source.at}" if source.at else ""
    if source.kind in ("parameter", "buffer"):
        return f"the {source.kind} {source.name!r}, which was not finite before the net ran"
    if source.kind == "input":
        return source.name
    if source.kind == "constant":
        what = f"({source.name})" if source.name else "a tensor that the code holds, used"
        return f"{what}{at}{_code(source)}{': ' * bool(source.why)}{source.why}"
    if source.root is not source:
        then = f"; ({source.name}) then makes NaN of them"
        then += f": {source.why}" if source.why and source.name not in _PRODUCTS else ""
        return described(source.root) + then
    ranges = " and ".join(map(_range, source.inputs))
    words = f"({source.name}){at}{_code(source)}" + (f", of {ranges}" if ranges else "")
    words += f": {source.why}" if source.why else ""
    if source.taken is not None:
        words += f"; its infinities come from {described(source.taken)}"
    return words


_PRODUCTS = ("linear", "matmul", "convolution")


def _code(source: NonfiniteSource) -> str:
    return f" `{shorten(source.code, 60)}`" if source.code else ""


def _cause(
    layer: Layer,
    before: Layer | None,
    inputs: Sequence[Moments],
    source: NonfiniteSource | None,
) -> str:
    """Why a layer's output is not finite though everything measured before was."""
    if layer.nonfinite_parameters:
        them = ", ".join(layer.nonfinite_parameters)
        return f" They were in its parameters already: {them}."
    if source is not None and explains(source, layer):
        return _explained(layer, before, source)
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
    return f" They were in its input already: plain code {made}, {after}."


def _explained(layer: Layer, before: Layer | None, source: NonfiniteSource) -> str:
    if source.kind == "input":
        return " They were in the net's own input already."
    if source.kind != "function":
        return f" They come from {described(source)}."
    if not any(m.nonfinite for m in layer.inputs) or source.root.taken is not None:
        return f" Made by {described(source)}."
    after = "before the first layer" if before is None else f"after {_name(before)}"
    return f" They were in its input already: plain code made them, {after}: {described(source)}."


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
