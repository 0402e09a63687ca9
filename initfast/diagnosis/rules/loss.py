"""The check of a loss whose value before any training is known."""

from __future__ import annotations

import math

from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net, Outcome
from initfast.stats.outcome import CrossEntropy
from initfast.stats.text import number


def initial_loss(net: Net) -> Outcome:
    """A cross-entropy far above ln(classes), which the same odds for each class would have."""
    for found in net.outcome.cross_entropies:
        if found.classes < 2 or not math.isfinite(found.value) or not net.layers:
            continue
        expected = math.log(found.classes)
        ratio = found.value / (expected + 1)
        if ratio > net.limits["initial_loss"]:
            yield _finding(net, found, expected, ratio)
            return


def _finding(net: Net, found: CrossEntropy, expected: float, ratio: float) -> Finding:
    at = [i for i, x in enumerate(net.layers) if x.is_returned and found.classes in x.shape[1:]]
    i = at[-1] if at else len(net.layers) - 1
    layer = net.layers[i]
    code = (
        f"layer = report.layers[{i}]\n"
        f"{net.root}.get_parameter(layer.parameter).data.div_(layer.std)"
    )
    is_head = bool(at and layer.parameter and net.root and layer.std > 1)
    return net.finding(
        "initial_loss",
        "error" if ratio > net.limits["initial_loss"] ** 2 else "warning",
        (i, i),
        "initial_loss",
        ratio,
        f"the cross-entropy of {found.classes} classes is {number(found.value)}; the same odds for "
        f"each class give ln({found.classes}) = {number(expected)}",
        f"the logits have a std of {number(layer.std)}: the classes' odds lie far apart, and not "
        "as the targets do"
        if at
        else "",
        "start the last layer smaller, so that the logits' std is at most 1, or its weight at zero",
        code if is_head else "",
    )
