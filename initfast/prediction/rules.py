"""Which theory a layer of a report follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from initfast.errors import ArgumentError
from initfast.ops.activations import ACTIVATIONS
from initfast.prediction import other_functions, products
from initfast.prediction.activations import activated, mesh_of
from initfast.prediction.norms import norm
from initfast.prediction.signal import Signal
from initfast.stats.layer import Layer

Rule = Callable[[Layer, Signal], "Signal | None"]

_OF_ONE: dict[str, Rule] = {
    "linear": products.linear,
    "Conv": products.convolution,
    "Embedding": products.embedding,
    "MultiheadAttention": products.attention,
    "Dropout": other_functions.dropout,
    "AvgPool": other_functions.average_pooling,
    "MaxPool": other_functions.max_pooling,
    "GLU": other_functions.gated,
    "softmax": other_functions.softmax,
    **dict.fromkeys(("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm"), norm),
    **dict.fromkeys(
        ("Identity", "Flatten", "Unflatten", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle"),
        lambda layer, x: x,
    ),
}
BEYOND = "float64 does not hold the powers of such numbers"
_SPELLINGS = {"glu": "GLU", "Softmax": "softmax", "ConvTranspose": "Conv"}


class Outcome(NamedTuple):
    """What theory says of one layer.

    Attributes:
        post: of its output; None where it says nothing.
        pre: of the pre-activation, where the layer has one.
        reason: why it says nothing, in words; "" where it does.
    """

    post: Signal | None = None
    pre: Signal | None = None
    reason: str = ""


@cache
def family(op: str) -> str:
    """What a layer's op is a kind of: "Conv" of "Conv2d + relu"."""
    head = op.partition(" + ")[0].partition("[")[0]
    name = head.removeprefix("Adaptive")
    name = name[:-2] if name[-2:] in ("1d", "2d", "3d") else name
    return _SPELLINGS.get(name, name)


def outcome(layer: Layer, inputs: Sequence[Signal], of_pre: bool = False) -> Outcome:
    """What theory makes of the inputs' signals.

    Args:
        layer: of a report.
        inputs: the signals of what it takes, in order.
        of_pre: the activation is left out, and `post` is the pre-activation.
    """
    kind, head = family(layer.op), layer.op.partition(" + ")[0]
    if reason := _lacking(layer, kind, inputs):
        return Outcome(reason=reason)
    try:
        found = _outcome(layer, kind, head, inputs, of_pre)
    except (OverflowError, ZeroDivisionError):
        return Outcome(reason=BEYOND)
    except ArgumentError as error:
        return Outcome(reason=str(error))
    held = all(x is None or x.is_held for x in (found.post, found.pre))
    return found if held else Outcome(reason=BEYOND)


def _outcome(layer: Layer, kind: str, head: str, inputs: Sequence[Signal], of_pre: bool) -> Outcome:
    if head in ACTIVATIONS:
        before: Signal | None = inputs[0]
    elif kind == "add":
        before = other_functions.residual_sum(layer, inputs)
    elif kind == "Embedding":
        before = products.embedding(layer)
    else:
        before = _OF_ONE[kind](layer, inputs[0])
    if before is None:
        return Outcome(reason=_without_rule(layer, kind))
    mesh = None if of_pre else mesh_of(layer)
    if mesh is None:
        return Outcome(before)
    units = layer.units or (layer.shape[-1] if layer.shape else 1)
    return Outcome(activated(before, mesh, units, layer.post.count), before)


def _lacking(layer: Layer, kind: str, inputs: Sequence[Signal]) -> str:
    """What is missing for a prediction, in words; "" where nothing is."""
    if kind not in _OF_ONE and kind != "add" and layer.op.partition(" + ")[0] not in ACTIVATIONS:
        return f"there is no theory here of {layer.op}"
    if not layer.post.finite or layer.has_nonfinite:
        return "it is not finite"
    if not inputs and kind != "Embedding":
        return "its input was not measured"
    if not all(x.is_held for x in inputs):
        return BEYOND
    if kind in ("linear", "Conv", "Embedding"):
        if layer.weight is None or not layer.weight.moments.finite:
            return "its weight was not measured"
        if layer.vectors is None:
            return "whether it has a bias is not known: no module runs it, or the report is old"
        if kind == "Conv" and not layer.settings:
            return "its padding is not known"
    if kind in ("Dropout", "MultiheadAttention") and not layer.settings:
        return "its settings are not known"
    if kind == "MultiheadAttention" and not {"in_proj_weight", "out_proj.weight"} <= {
        *layer.weights
    }:
        return "its query, key and value have weights of their own"
    if kind == "MultiheadAttention" and any(m != layer.inputs[0] for m in layer.inputs[1:]):
        return "it attends to another sequence, or has a mask"
    return ""


def _without_rule(layer: Layer, kind: str) -> str:
    if kind == "BatchNorm":
        return "its running statistics are those of other data"
    if kind == "softmax":
        return "its logits are masked"
    return "what it takes is no known function of normal values"
