"""Checks of what layers are given: numbers that are too large, or one number all over."""

from __future__ import annotations

import math

from initfast.diagnosis.facts import dense
from initfast.diagnosis.net import Net, Outcome
from initfast.stats.layer import Layer
from initfast.stats.text import number

LEAST_VALUES = 8
"""Of fewer values that they are alike tells nothing."""


def input_scale(net: Net) -> Outcome:
    """The net's own input is large, and its first weights are made for one of about 1."""
    given = {(m.count, m.min, m.max): m for m in net.inputs if m.finite > 1}
    largest = 0.0  # of what layers have made so far
    for i, layer in enumerate(net.sound):
        x, before = layer.input, largest
        largest = max(largest, layer.rms if layer.post.finite else 0.0)
        if x is None or not dense(layer) or not x.rms > net.limits["input_rms"] or i in net.normed:
            continue
        is_own = (x.count, x.min, x.max) in given
        if not is_own and (net.parents[i] is not None or before > net.limits["input_rms"] / 3):
            continue  # layers have made it so
        scale = layer.weight.scale if layer.weight else 0.0
        if math.sqrt(scale) * x.rms < net.limits["unit_factor"]:
            continue  # its weights are made for it
        what = "the net's input" if is_own else "what plain code gives this layer"
        yield net.finding(
            "input_scale",
            "warning",
            (i, i),
            "input_rms",
            x.rms,
            f"{what} has a root mean square of {number(x.rms)} (mean {number(x.mean)}, "
            f"std {number(x.std)})",
            "weights are initialised for inputs of about 1: everything after it is too large by "
            "the same factor",
            "normalise the input: (x - x.mean()) / x.std(); the code fits the first weights to it",
            net.refill_for_input(i),
        )
        return


def constant_input(net: Net) -> Outcome:
    """Plain code gives a layer, on which all that the net returns depends, one number all over."""
    own = {m.fingerprint for m in net.inputs}
    for i, layer in enumerate(net.sound):
        x = layer.input
        if x is None or not dense(layer) or x.finite < LEAST_VALUES:
            continue
        if not x.std <= net.limits["constant_input"]:
            continue
        is_told = i in net.after_constant or x.fingerprint in own
        if is_told or any(not y.post.m2 for y in net.sound[:i]) or not _is_all(net, i):
            continue
        after = f"after {net.layers[i - 1].name!r}" if i else "before the first layer"
        yield net.finding(
            "constant_input",
            "error",
            (i, i),
            "constant_input",
            x.std,
            f"all {x.count} values of its input are {number(x.mean)}: plain code made them so, "
            f"{after}, and the output is the same for every input",
            "an exponential of what is far below zero, a division by what is too large, a "
            "comparison, a clamp or a mask makes one number of all" + _largest(net, i),
            "bring what that code is given to a scale of about 1, or compute it in a wider dtype",
        )
        return


def _largest(net: Net, i: int) -> str:
    """How large what was made before is, in words."""
    made: list[Layer] = [x for x in net.sound[:i] if x.post.finite]
    top = max(
        (x.post.largest for x in made), default=max((m.largest for m in net.inputs), default=0)
    )
    return f"; what was made before it reaches {number(top)}"


def _is_all(net: Net, i: int) -> bool:
    """Whether the net returns nothing that does not come from layer i alone."""
    of_it = {i}
    for j in range(i + 1, len(net.layers)):
        if net.parents[j] in of_it and not net.layers[j].further_inputs:
            of_it.add(j)
    returned = [j for j, x in enumerate(net.layers) if x.is_returned]
    return bool(returned) and all(j in of_it for j in returned)


def drowned_embedding(net: Net) -> Outcome:
    """What is added to an embedding at every sample alike, as positions are, is far larger."""
    tables = {x.post.fingerprint: i for i, x in enumerate(net.sound) if x.op == "Embedding"}
    for layer in net.sound if len(tables) > 1 else ():
        places = [tables.get(m.fingerprint) for m in layer.inputs]
        if not layer.op.startswith("add") or len(places) != 2 or None in places:
            continue
        large, small = sorted(
            (i for i in places if i is not None), key=lambda i: -net.layers[i].rms
        )
        of, over = net.layers[small], net.layers[large]
        if not of.rms > 0 or over.post.count >= of.post.count:
            continue  # the larger is looked up for each sample, too
        ratio = over.rms / of.rms
        if not ratio > net.limits["drowned_embedding"]:
            continue
        yield net.finding(
            "drowned_embedding",
            "warning",
            (min(small, large), max(small, large)),
            "drowned_embedding",
            ratio,
            f"{over.name!r} has a root mean square of {number(over.rms)}, {of.name!r}, to which it "
            f"is added, of {number(of.rms)}",
            "what is the same for every sample is so much larger that the sum is nearly the same",
            "start both with the same std",
            f"w = {net.root}.get_parameter({f'{over.name}.weight'!r})\n"
            f"initfast.init.normal_(w, 0.0, report.layers[{small}].std)"
            if net.root and over.name
            else "",
        )
        return
