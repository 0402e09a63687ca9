"""The check of non-finite values, in the signal or its gradient."""

from __future__ import annotations

import math

import torch

from initfast.diagnosis.facts import dense, spans
from initfast.diagnosis.masks import HEADROOM, reach
from initfast.diagnosis.net import DEVIATIONS, Net, Outcome
from initfast.diagnosis.origin import origin
from initfast.stats.layer import Layer
from initfast.stats.text import dtype_name, number, share


def non_finite(net: Net) -> Outcome:
    """A layer makes a NaN or an infinity from finite values."""
    yield from _masks(net)
    i = net.first_nonfinite
    if i is None:
        yield from _nonfinite_gradient(net)
        return
    layer, later = net.layers[i], net.layers[i + 1 :]
    bad = layer.post if layer.post.nonfinite or layer.pre is None else layer.pre
    spread = sum(x.has_nonfinite for x in later)
    yield net.finding(
        "non_finite",
        "error",
        (i, i),
        "nonfinite",
        bad.nonfinite_share,
        f"{origin(net.layers, net.inputs, i)} {share(bad.nonfinite_share)} of the values there; "
        f"{spread} of the {len(later)} layers after it have such values too",
        *_why_nonfinite(layer),
    )


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
    if not bad:
        return
    i = max(bad)
    but = " but for those that end where they are" if net.masks else ""
    dtype = net.layers[i].dtype  # in float16 a GradScaler meets this and goes down by itself
    yield net.finding(
        "non_finite",
        "warning" if dtype is torch.float16 else "error",
        (i, i),
        "nonfinite",
        bad[i].nonfinite_share,
        f"{share(bad[i].nonfinite_share)} of the gradient at its output is NaN or infinite, while "
        f"all outputs are finite{but}; {len(bad) - 1} layers before it have such gradients too",
        f"what comes back exceeds {dtype_name(dtype)}, or an operator after it has no "
        "finite slope there, such as a square root at 0",
        "keep the scale of signal and gradient; in float16 lower the GradScaler's scale",
    )


def _why_nonfinite(layer: Layer) -> tuple[str, str]:
    if any(m.nonfinite for m in layer.inputs):
        return "its input has such values already", "look at the data, or at the code before it"
    if layer.nonfinite_parameters or (layer.weight and layer.weight.moments.nonfinite):
        return "its parameters have such values already", "initialise or load them anew"
    limit, dtype = torch.finfo(layer.dtype).max, dtype_name(layer.dtype)
    top = reach(layer)
    if layer.weight is not None and layer.input is not None and dense(layer):
        top = max(top, DEVIATIONS * math.sqrt(layer.weight.scale) * layer.input.rms)
    if top > limit / HEADROOM:
        return (
            f"what it sums reaches about {number(top)}, and {dtype} ends at {number(limit)}",
            "keep the scale in the layers before it, or use a wider dtype",
        )
    return (
        f"its input is far from {dtype}'s {number(limit)}, so that it is no plain overflow",
        "look for a division by zero, a log or a root of what is not positive",
    )
