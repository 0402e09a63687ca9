"""Checks of attention: logits that saturate the softmax, or come near the end of their dtype.

Of n logits that are normal with standard deviation s, the entropy of the weights is ln n - s²/2 for
s up to about 1, and next to nothing where s is several times the root of 2 ln n: then each query
takes one key, and the softmax passes no gradient to queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from initfast.diagnosis.facts import dense, spans
from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net, Outcome
from initfast.stats.attention import Attention
from initfast.stats.text import dtype_name, number

LEAST_OF_MANY = 3.5
LEAST_LOGIT_STD = 2.0
"""A softmax over so few, or of logits so close, is not judged by its output alone."""


def attention_logits(net: Net) -> Outcome:
    """Attention's logits saturate its softmax, or come near the largest number of their dtype."""
    found = {i: x.attention for i, x in enumerate(net.layers) if x.attention is not None}
    yield from _saturated(net, {i: a for i, a in found.items() if a.rows})
    yield from _near_the_end(net, found)
    yield from _one_of_many(net)


def _saturated(net: Net, found: dict[int, Attention]) -> Iterator[Finding]:
    bad = [i for i, a in found.items() if a.entropy < net.limits["attention_entropy"]]
    for first, last in spans(bad):
        worst = min((i for i in bad if first <= i <= last), key=lambda i: found[i].entropy)
        attention = found[worst]
        is_severe = attention.entropy < net.limits["attention_entropy_severe"]
        yield net.finding(
            "attention_logits",
            "error" if is_severe else "warning",
            (first, last),
            "attention_entropy_severe" if is_severe else "attention_entropy",
            attention.entropy,
            f"each query takes nearly one key: the weights' entropy is {attention.entropy:.3g} of "
            f"that of equal weights (layer {worst})",
            f"the logits' std is {number(attention.logit_std)}, their largest "
            f"{number(attention.largest_logit)}; at a std of 1 the softmax passes gradients on",
            _cure(attention),
        )


def _cure(attention: Attention) -> str:
    std = attention.logit_std
    here = f": {number(std**-0.5)} times what they are gives logits of std 1" if std > 0 else ""
    return (
        "scale the logits by 1 / sqrt(head dimension), start the weights of queries and keys at a "
        f"variance of 1 / fan_in{here}; a norm of queries and keys keeps it so"
    )


def _near_the_end(net: Net, found: dict[int, Attention]) -> Iterator[Finding]:
    """Logits of 16 bits that overflow, or would where the product is written in its own dtype."""
    for i, attention in found.items():
        inputs, dtype = attention.logits, net.layers[i].dtype
        end, top = torch.finfo(dtype).max, inputs.largest
        overflows = inputs.nonfinite > 0 or top > end
        if not overflows and top * net.limits["dtype_headroom"] <= end:
            continue
        said = f"the logits reach {number(top)}"
        if inputs.nonfinite:
            said = f"{inputs.nonfinite} of the logits are not finite"
        yield net.finding(
            "attention_logits",
            "error" if overflows else "warning",
            (i, i),
            "dtype_headroom",
            end / top if top else 0.0,
            f"{said}: {dtype_name(dtype)} ends at {number(end)}",
            f"their std is {number(attention.logit_std)}",
            "scale the queries before the product, not the logits after it; normalise queries and "
            "keys, or compute attention in bfloat16 or float32",
        )


_MASKED, _FAR = -1e4, -4.0
"""From here on down a logit is a mask's: large finite numbers stand for minus infinity.

But for logits that are as large, in magnitude, on the other side of zero: these are only large.
"""

_FROM_BIAS = 0.25
"""Logits whose std over the samples is so small a part of all have their spread from the bias."""


def _one_of_many(net: Net) -> Iterator[Finding]:
    """A softmax within the net that takes nearly one, told by its output's moments.

    The squares of a row's weights add up to 1 where one has all the weight, to 1/n where n are
    equal; the mean of all is 1/n.
    """
    for i, layer in enumerate(net.sound):
        x, p = layer.input, layer.post
        if layer.op.lower() != "softmax" or layer.attention or layer.is_returned or x is None:
            continue
        if not (p.mean > 0 and 1 / p.mean > LEAST_OF_MANY and x.std > LEAST_LOGIT_STD):
            continue
        if x.min <= min(_MASKED, _FAR * abs(x.max)):
            continue
        share_of_one = p.rms * p.rms / p.mean
        if not share_of_one > net.limits["softmax_share"]:
            continue
        before = net.parents[i]
        weight = net.layers[before].parameter if before is not None else ""
        cure = _same_for_all(net, before, x.std) or (
            f"the logits' std is {number(x.std)}, their largest {number(x.max)}; at a std of 1 "
            "the softmax passes gradients on",
            "divide the logits by their std, as a product of queries and keys by sqrt(head "
            "dimension), whose weights start at a variance of 1 / fan_in",
            f"{net.root}.get_parameter({weight!r}).data.div_(report.layers[{i}].input.std)"
            if weight and net.root
            else "",
        )
        yield net.finding(
            "attention_logits",
            "error" if share_of_one > net.limits["softmax_share"] ** 0.25 else "warning",
            (i, i),
            "softmax_share",
            share_of_one,
            f"of the {round(1 / p.mean)} weights of a softmax one has nearly all: their squares "
            f"add up to {share_of_one:.3g}, which is 1 where one has it all",
            *cure,
        )


def _same_for_all(net: Net, before: int | None, std: float) -> tuple[str, str, str] | None:
    """Why logits lie far apart that are nearly the same for all samples, and the cure."""
    layer = None if before is None else net.layers[before]
    if layer is None or not dense(layer) or layer.batch_std is None or before is None:
        return None
    if not layer.batch_std < _FROM_BIAS * std:
        return None
    spread = f"the logits' std is {number(std)}, over the samples {number(layer.batch_std)} only"
    bias = (layer.vectors or {}).get("bias")
    if (bias is not None and bias.std > std / 2) or layer.vectors is None:
        cause, cure = f"the bias of {layer.name!r}: {spread}", "start the bias at zero"
        return cause, cure, net.zero_biases(before, before)
    if layer.input is None or not abs(layer.input.mean) > _FROM_BIAS * layer.input.std:
        return None
    code = f"w = {net.root}.get_parameter({layer.parameter!r}).data\n"
    code += "w.sub_(w.flatten(1).mean(1).reshape(-1, *[1] * (w.dim() - 1)))"
    return (
        f"the mean of its input, {number(layer.input.mean)}, times the sums of the rows of "
        f"{layer.name!r}'s weight: {spread}",
        "take the mean from its input, as by a norm before it, or from the rows of the weight",
        code if net.root and layer.parameter else "",
    )
