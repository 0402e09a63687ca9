"""The check of a loss whose value before any training is known."""

from __future__ import annotations

import math

from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net, Outcome
from initfast.stats.layer import Layer
from initfast.stats.outcome import CrossEntropy
from initfast.stats.text import number

UNIT = 0.01
"""So near to 1 is the root mean square length of vectors that were normalised, in bfloat16 too."""


def initial_loss(net: Net) -> Outcome:
    """A cross-entropy far above ln(classes), which the same odds for each class would have.

    Cosines that are scaled, less a margin, mean to begin far above it (Wang et al. 2018, CosFace;
    Deng et al. 2019, ArcFace), and so may a loss that makes the logits itself.
    """
    if any(_is_cosine(layer) for layer in net.layers):
        return
    for found in net.outcome.cross_entropies:
        if found.classes < 2 or not math.isfinite(found.value) or not net.layers:
            continue
        expected = math.log(found.classes)
        ratio = found.value / (expected + 1)
        made = [i for i, x in enumerate(net.layers) if x.is_returned]
        at = [i for i in made if found.classes in (net.layers[i].shape[1:] or net.layers[i].shape)]
        if at and ratio > net.limits["initial_loss"]:
            yield _finding(net, at[-1], found, expected, ratio)
            return
    yield from _huge(net)


def _huge(net: Net) -> Outcome:
    """A loss of any kind that is huge, of outputs that are not: no step is small enough for it."""
    value = net.outcome.loss
    if value is None or not net.limits["loss_size"] < abs(value) < math.inf or not net.sound:
        return
    returned = [i for i, x in enumerate(net.sound) if x.is_returned and x.rms > 0]
    if any(net.layers[i].rms > net.limits["overall_growth"] for i in returned):
        return  # growth has checks of its own
    odd = max(returned, key=lambda i: abs(math.log(net.layers[i].rms)), default=len(net.sound) - 1)
    yield net.finding(
        "initial_loss",
        "error",
        (odd, odd),
        "loss_size",
        abs(value),
        f"the loss is {number(value)} before any training; the output furthest from 1 has a "
        f"root mean square of {number(net.layers[odd].rms)}",
        "",
        "look for a division by next to nothing (a variance, a norm), an exponential, or targets "
        "in large units",
    )


def _is_cosine(layer: Layer) -> bool:
    """Whether a product is that of unit vectors: its input's rows, and its weight's."""
    if layer.weight is None or layer.input is None or not layer.input.finite:
        return False
    root = math.sqrt(layer.weight.fan_in)
    lengths = layer.input.rms * root, layer.weight.moments.rms * root
    return layer.weight.fan_in > 1 and all(abs(length - 1) < UNIT for length in lengths)


def _finding(net: Net, i: int, found: CrossEntropy, expected: float, ratio: float) -> Finding:
    layer = net.layers[i]
    code = (
        f"layer = report.layers[{i}]\n"
        f"{net.root}.get_parameter(layer.parameter).data.div_(layer.std)"
    )
    is_head = bool(layer.parameter and net.root and layer.std > 1)
    return net.finding(
        "initial_loss",
        "error" if ratio > net.limits["initial_loss"] ** 2 else "warning",
        (i, i),
        "initial_loss",
        ratio,
        f"the cross-entropy of {found.classes} classes is {number(found.value)}; the same odds for "
        f"each class give ln({found.classes}) = {number(expected)}",
        f"the logits have a std of {number(layer.std)}: the classes' odds lie far apart, and not "
        "as the targets do",
        "start the last layer smaller, so that the logits' std is at most 1, or its weight at zero",
        code if is_head else "",
    )
