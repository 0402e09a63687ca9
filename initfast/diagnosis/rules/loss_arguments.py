"""The check of what a loss is given: logits, log-probabilities, targets of the output's scale.

Which loss it is the gradient at the net's output tells, and the loss's value: each is a known
function of the output, by which a report without the loss's name can be read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from initfast.diagnosis.advice import activation_in
from initfast.diagnosis.findings import Finding, Severity
from initfast.diagnosis.net import Net, Outcome
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import number

HALF, MOST = 0.5, 1 / (1 + math.exp(-1))
"""The sigmoid of a probability lies between these."""


def loss_arguments(net: Net) -> Outcome:
    """A loss of logits is given probabilities, one of log-probabilities logits, or far targets."""
    if len(net.outcome.losses) != 1 or not net.outcome.is_finite:
        return
    for i, layer in enumerate(net.layers):
        if not layer.is_returned or layer.post.nonfinite or layer.post.finite < 4:
            continue
        if _is_softmax(layer) and _takes_logits(net, layer):
            yield _normalised_twice(net, i, "softmax", "cross_entropy")
        if layer.grad is None or layer.grad.finite != layer.post.count:
            continue
        if _is_sigmoid_twice(net, layer, layer.grad):
            yield _normalised_twice(net, i, "sigmoid", "binary_cross_entropy_with_logits")
        is_cosine = -1 <= layer.post.min and layer.post.max <= 1 and layer.weight is None
        may_be = layer.post.max > 0 and (_is_softmax(layer) or not is_cosine)
        if may_be and (off := _off_picked(layer, layer.grad)) < net.limits["loss_gradient"]:
            yield _no_logarithms(net, i, off)
        yield from _far_targets(net, i, layer.grad)


def _is_softmax(layer: Layer) -> bool:
    return layer.op.lower() == "softmax"


def _takes_logits(net: Net, layer: Layer) -> bool:
    """Whether the loss was a cross-entropy of as many classes, which takes a softmax itself."""
    classes = layer.shape[1] if len(layer.shape) > 1 else layer.shape[0]
    if layer.grad is None or not layer.grad.rms > 0:  # returned beside the logits
        return False
    return any(found.classes == classes for found in net.outcome.cross_entropies)


def _is_sigmoid_twice(net: Net, layer: Layer, grad: Moments) -> bool:
    """Whether the gradient is (sigmoid(y) - target) / n of probabilities y, targets of 0 and 1.

    The mean of the loss of one then lies between those of the best and the worst of them.
    """
    if activation_in(layer.op) != "sigmoid" and layer.op.lower() != "sigmoid":
        return False
    if not -math.log(MOST) <= net.outcome.losses[0] <= 1 - math.log(MOST):
        return False
    same = net.limits["loss_gradient"]
    low, high = grad.min * grad.count, grad.max * grad.count
    least = grad.smallest
    if least is not None and least * grad.count <= 1 - MOST - same:
        return False
    return -HALF - same < low < MOST - 1 + same and HALF - same < high < MOST + same


def _off_picked(layer: Layer, grad: Moments) -> float:
    """How far the gradient is from that of minus the mean of one output of each row.

    Of nll_loss it is that; infinity where it is nothing like it.
    """
    if len(layer.shape) < 2 or "logsoftmax" in layer.op.lower().replace("_", ""):
        return math.inf
    rows = grad.count // layer.shape[1]
    is_one = grad.max <= 0 and grad.count - grad.zero == rows
    return abs(grad.min * rows + 1) if layer.shape[1] > 2 and is_one else math.inf


def _normalised_twice(net: Net, i: int, function: str, loss: str) -> Finding:
    name = _module(net.layers[i], function)
    return _finding(
        net,
        i,
        "warning",
        "loss_gradient",
        0.0,
        f"the net ends in {function}, and the loss, {loss}, takes {function} again: it is given "
        f"{number(net.layers[i].post.min)} to {number(net.layers[i].post.max)} as logits",
        f"of numbers between 0 and 1 the second {function} makes odds that are nearly even: the "
        "loss cannot fall far, and gradients are small",
        f"return the logits: leave the {function} out, and take it where probabilities are wanted",
        f"import torch\n{net.root}.set_submodule({name!r}, torch.nn.Identity())" if name else "",
    )


def _module(layer: Layer, function: str) -> str:
    """The path of the module that is this function; "" where plain code calls it."""
    kinds = ((layer.name, layer.type), *zip(layer.also, layer.also_types, strict=False))
    return next((name for name, kind in kinds if kind.lower() == function and name), "")


def _no_logarithms(net: Net, i: int, off: float) -> Finding:
    layer = net.layers[i]
    softmax, made = _module(layer, "softmax"), "torch.nn.LogSoftmax(1)"
    whole = f"torch.nn.Sequential({net.root}.get_submodule({layer.name!r}), {made})"
    name, new = (softmax, made) if softmax else (layer.name if layer.type else "", whole)
    return _finding(
        net,
        i,
        "warning",
        "loss_gradient",
        off,
        "the loss is minus the mean of one output of each row, as nll_loss takes of "
        f"log-probabilities; these outputs reach {number(layer.post.max)}: if it is nll_loss, they "
        "are none",
        "a logarithm of a probability is at most 0; of anything else this loss has no least value"
        if not _is_softmax(layer)
        else "these are probabilities, whose logarithms the loss should have",
        "use cross_entropy, which takes logits, or end the net in log_softmax",
        f"import torch\n{net.root}.set_submodule({name!r}, {new})" if name and net.root else "",
    )


def _far_targets(net: Net, i: int, grad: Moments) -> Iterator[Finding]:
    """Of a mean or a sum of squares the gradient is twice the error, over how many there are."""
    layer, loss = net.layers[i], net.outcome.losses[0]
    if not loss > 0 or not grad.rms > 0:
        return
    for count, mean_square in ((grad.count, loss), (1, loss / grad.count)):
        error, distance = grad.rms * count / 2, math.sqrt(mean_square)
        ratio = distance / max(layer.rms, 1.0)
        is_squared = abs(error / distance - 1) < net.limits["loss_gradient"]
        if is_squared and ratio > net.limits["target_scale"]:
            mean = layer.mean - grad.mean * count / 2
            yield _finding(
                net,
                i,
                "error" if ratio > net.limits["target_scale"] ** 2 else "warning",
                "target_scale",
                ratio,
                f"the targets of the squared loss, {number(loss)}, lie {number(distance)} from the "
                f"outputs, whose root mean square is {number(layer.rms)}; the targets' mean is "
                f"{number(mean)}",
                "a net begins with outputs of about 1; until they have grown to the targets the "
                "gradients are as many times too large",
                "standardise the targets, (y - y.mean()) / y.std(), and undo it on what the net "
                "returns; clip rewards; or use smooth_l1_loss, whose gradient is bounded",
            )
            return


def _finding(
    net: Net,
    i: int,
    severity: Severity,
    threshold: str,
    value: float,
    measured: str,
    cause: str,
    advice: str,
    code: str = "",
) -> Finding:
    return net.finding(
        "loss_arguments",
        severity,
        (i, i),
        threshold,
        value,
        measured,
        cause,
        advice,
        code if net.root else "",
    )
