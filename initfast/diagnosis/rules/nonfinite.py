"""The check of non-finite values, in the signal or its gradient."""

from __future__ import annotations

import math

import torch

from initfast.diagnosis.facts import dense, spans
from initfast.diagnosis.function_calls import SMALLER
from initfast.diagnosis.masks import HEADROOM, reach
from initfast.diagnosis.net import DEVIATIONS, Net, Outcome
from initfast.diagnosis.origin import described, explains, origin
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.nonfinite_source import NonfiniteSource
from initfast.stats.text import dtype_name, number, plural, share


def non_finite(net: Net) -> Outcome:
    """A layer makes a NaN or an infinity from finite values, or the loss does, or a gradient."""
    yield from _masks(net)
    i = net.first_nonfinite
    if i is None:
        yield from _nonfinite_gradient(net) if net.outcome.is_finite else _nonfinite_loss(net)
        return
    layer, later, source = net.layers[i], net.layers[i + 1 :], net.outcome.source
    bad = layer.post if layer.post.nonfinite or layer.pre is None else layer.pre
    yield net.finding(
        "non_finite",
        "error",
        (i, i),
        "nonfinite",
        bad.nonfinite_share,
        f"{origin(net.layers, net.inputs, i, source)} {share(bad.nonfinite_share)} of the values "
        f"there{_spread(sum(x.has_nonfinite for x in later), len(later))}"
        f"{'' if net.outcome.is_finite else '; so has the loss'}",
        *(
            _why_traced(source)
            if source and explains(source, layer)
            else _why_nonfinite(net, layer)
        ),
    )


def _nonfinite_loss(net: Net) -> Outcome:
    """The loss alone: every output is finite."""
    if not net.layers:
        return
    last, source = len(net.layers) - 1, net.outcome.source
    value = next(x for x in net.outcome.losses if not math.isfinite(x))
    known = source is not None and source.seen_in == "loss"
    yield net.finding(
        "non_finite",
        "error",
        (last, last),
        "nonfinite",
        1.0,
        f"the loss is {'NaN' if math.isnan(value) else 'infinite'}, though what the net returns is "
        f"finite{_made_by(source) if known else ''}",
        *(_why_traced(source) if source and known else ("", "see what the loss computes")),
    )


def _made_by(source: NonfiniteSource | None) -> str:
    return "" if source is None else f"; made by {described(source)}"


def _why_traced(source: NonfiniteSource) -> tuple[str, str]:
    """Why, and what to do, as the second look has found."""
    source = source.root
    if source.kind in ("parameter", "buffer"):
        what = f"the {source.kind} {source.name!r} has such values already"
        return what, "initialise or load it anew: nothing has filled it, or what did was not finite"
    if source.kind == "input":
        return "its input has such values already", "look at the data"
    made = (
        source.why or f"{source.name or 'the code'} makes them{source.at and f', at {source.at}'}"
    )
    return made, source.advice or f"see what {source.name or 'the code'} is given there"


def _masks(net: Net) -> Outcome:
    nans = {i for i in net.masks if net.layers[i].has_nan}
    yield from _ended(net, net.masks - nans, "a mask's infinities")
    yield from _ended(net, nans, "something else is put for its NaN")


def _ended(net: Net, places: set[int], what: str) -> Outcome:
    for first, last in spans(places):
        members = [i for i in places if first <= i <= last]
        most = max(members, key=lambda i: net.layers[i].nonfinite)
        yield net.finding(
            "non_finite",
            "info",
            (first, last),
            "nonfinite",
            net.layers[most].nonfinite,
            f"{share(net.layers[most].nonfinite)} of the values of layer {most} are not finite, "
            f"and no layer that takes them has such values: {what}",
        )


def _nonfinite_gradient(net: Net) -> Outcome:
    most = net.limits["nonfinite"]
    bad = {
        i: x.grad
        for i, x in enumerate(net.layers)
        if x.grad is not None and x.grad.nonfinite_share > most
    }
    bad = bad or {i: m for i, x in enumerate(net.layers) if (m := _bad_weight_grad(x, most))}
    if not bad:
        return
    i, source = max(bad), net.outcome.source
    but = " but for those that end where they are" if net.masks else ""
    dtype = net.layers[i].dtype  # in float16 a GradScaler meets this and goes down by itself
    known = source is not None and source.seen_in == "gradient"
    where = "its output" if net.layers[i].grad is bad[i] else "its weight"
    yield net.finding(
        "non_finite",
        "warning" if dtype is torch.float16 else "error",
        (i, i),
        "nonfinite",
        bad[i].nonfinite_share,
        f"{share(bad[i].nonfinite_share)} of the gradient at {where} is NaN or infinite, while "
        f"all outputs are finite{but}; {plural(len(bad) - 1, 'layer')} before it "
        f"{'has' if len(bad) == 2 else 'have'} such gradients too"
        f"{_made_by(source) if known else ''}",
        *(_why_traced(source) if source and known else _why_gradient(net, dtype)),
    )


def _bad_weight_grad(layer: Layer, most: float) -> Moments | None:
    """A gradient of its weights that is not finite, though that at its output may be."""
    found = (m for m in (layer.weight_grad, *layer.weight_grads.values()) if m is not None)
    return next((m for m in found if m.nonfinite_share > most), None)


def _why_gradient(net: Net, dtype: torch.dtype) -> tuple[str, str]:
    if net.outcome.diverged:
        return DIVERGED
    return (
        f"what comes back exceeds {dtype_name(dtype)}, or an operator after it has no "
        "finite slope there, such as a square root at 0",
        "keep the scale of signal and gradient; in float16 lower the GradScaler's scale",
    )


DIVERGED = (
    "training diverged: earlier calls were finite, and the parameters have changed since",
    "lower the learning rate, warm it up, or clip the gradient's norm (Pascanu, Mikolov & Bengio "
    "2013)",
)


def _spread(spread: int, count: int) -> str:
    """How many of the layers after it have such values too."""
    if not count:
        return ""
    if count == 1:
        return f"; the layer after it has {'such values too' if spread else 'none'}"
    return f"; {spread} of the {count} layers after it have such values too"


def _why_nonfinite(net: Net, layer: Layer) -> tuple[str, str]:
    """What the measured numbers alone tell."""
    if net.outcome.diverged:
        return DIVERGED
    if layer.nonfinite_parameters or (layer.weight and layer.weight.moments.nonfinite):
        return "its parameters have such values already", "initialise or load them anew"
    if any(m.nonfinite for m in layer.inputs):
        return "its input has such values already", "look at the data, or at the code before it"
    limit, dtype = torch.finfo(layer.dtype).max, dtype_name(layer.dtype)
    top = reach(layer) if layer.op == "add" else 0.0
    if layer.weight is not None and layer.input is not None and dense(layer):
        top = max(reach(layer), DEVIATIONS * math.sqrt(layer.weight.scale) * layer.input.rms)
    if top > limit / HEADROOM:
        return (
            f"what it sums reaches about {number(top)}, and {dtype} ends at {number(limit)}",
            SMALLER,
        )
    return "", "see what its code divides by, exponentiates, or takes logs and roots of"
