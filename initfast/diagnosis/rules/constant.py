"""Checks of what is the same for every input: constant norms, constant outputs, one direction."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch

from initfast.diagnosis.advice import activation_in, activation_of
from initfast.diagnosis.facts import dense, is_constant, over_samples, units_of
from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net, Outcome
from initfast.diagnosis.norms import is_norm
from initfast.diagnosis.rules import depth
from initfast.ops.activations import ACTIVATIONS, RECTIFIERS
from initfast.stats.layer import Layer
from initfast.stats.text import number

STACK = 10
"""How many layers of as many rows make a stack that the depth tells of, and no single layer."""

NO_LONGER_APART = 0.98
"""The correlation from which on one direction is a warning: sound nets of 45 layers reach 0.96."""


def constant_output(net: Net) -> Outcome:
    """The output, of a norm or of the net, is the same for every input."""
    if net.idle_norm is not None:
        yield net.idle("constant_output")
        return
    found = [*_constant_norms(net), *_under_eps(net)]
    yield from found or _same_for_every_input(net)


def _constant_norms(net: Net) -> Iterator[Finding]:
    for i, layer in enumerate(net.sound):
        z = layer.pre or layer.post
        if not is_norm(layer) or z.finite < 8 or not z.std <= net.limits["constant_norm"]:
            continue
        fed_by_constant = layer.input is not None and not layer.input.m2
        is_dead = activation_in(layer.op) in RECTIFIERS and not layer.post.rms
        if fed_by_constant or is_dead or not _is_all_that_passes(net, i):
            continue  # constant before; dead_units speaks of it; a branch that starts at zero
        if any(activation_in(x.op) and not x.post.m2 for x in net.sound[:i]):
            return  # an activation before it is constant, and has a finding
        alone = layer.shape[-1:] == (1,) or z.m2 > 0
        name, module = layer.name, f"{net.root}.get_submodule({layer.name!r})"
        yield net.finding(
            "constant_output",
            "error",
            (i, i),
            "constant_norm",
            z.std,
            f"the norm's output has a std of {number(z.std)} around {number(z.mean)}: nothing of "
            "the input passes",
            "each value is normalised by itself, so that what is left of it is zero"
            if alone
            else "its weight is zero, or the mean square of its input exceeds its dtype",
            "leave the norm out, or normalise over more than one value"
            if alone
            else "fill its weight with ones, and let it compute in float32",
            ""
            if not net.root or not layer.type
            else f"import torch\n{net.root}.set_submodule({name!r}, torch.nn.Identity())"
            if alone
            else f"initfast.init.ones_({module}.weight)",
        )
        return


def _is_all_that_passes(net: Net, i: int) -> bool:
    """Whether a layer with weights, or the caller of the net, takes a layer's output alone."""
    output, is_pooled = net.layers[i].post.fingerprint, False
    if net.layers[i].is_returned:
        return True
    for layer in net.sound[i + 1 :]:
        if layer.op.startswith("add") or layer.input is None:
            continue
        if layer.input.fingerprint == output:
            if layer.is_returned or (dense(layer) and not is_pooled):
                return True
            if dense(layer):
                return False  # a gate's way, as in squeeze and excite
            is_pooled |= layer.post.count != layer.input.count
            output = layer.post.fingerprint
    return False


def _under_eps(net: Net) -> Iterator[Finding]:
    found = [i for i, x in enumerate(net.sound) if is_norm(x) and _eps_prevails(net, x)]
    if not found:
        return
    i, more = found[0], len(found) - 1
    layer, before = net.layers[i], net.parents[found[0]]
    first = before if before is not None and dense(net.layers[before]) else i
    act = net.activation(first)
    std = layer.input.std if layer.input else 0.0
    yield net.finding(
        "constant_output",
        "warning",
        (first, i),
        "eps",
        std,
        f"the norm's input has a std of {number(std)} only, so that its output has "
        f"{number((layer.pre or layer.post).std)} in place of 1"
        + (f"; so it is at {more} norms after it" if more else ""),
        "a norm's eps, 1e-5 in torch, is more than the variance: it no longer normalises",
        "draw the weights before it larger",
        "" if first == i else net.refill(first, found[-1], act),
    )


def _eps_prevails(net: Net, layer: Layer) -> bool:
    z, x = layer.pre or layer.post, layer.input
    if x is None or not z.std > net.limits["constant_norm"]:
        return False
    return z.std < 0.5 and 0 < x.std < net.limits["eps"]


def _same_for_every_input(net: Net) -> Iterator[Finding]:
    found = _where_samples_meet(net)
    if found is None or _is_vanishing(net):
        return
    first, last, share = found
    layer = net.layers[last]
    yield net.finding(
        "constant_output",
        "error",
        (first, last),
        "constant_output",
        share,
        f"the output is the same for every input: over the samples its std is "
        f"{number(over_samples(layer).batch_std or 0.0)}, over all values {number(layer.std)}",
        *(_cut_off(net, first) or _faded(net, first, last)),
    )


def _cut_off(net: Net, first: int) -> tuple[str, str, str] | None:
    """Why and what to do, where one layer alone makes one thing of all that it is given."""
    layer, name, root = net.layers[first], net.layers[first].name, net.root
    module = f"{root}.get_submodule({name!r})"
    share = layer.settings.get("p", 0.0)
    if layer.op.endswith("Dropout") and share == 1:
        return (
            f"{name!r} is a dropout of p = 1: it makes all zero",
            "give it a share that passes something",
            f"{module}.p = 0.5" if root else "",
        )
    if layer.op == "Embedding" and layer.std > 0 and first:
        before = net.layers[first - 1]
        return (
            f"all samples take the same rows of {name!r}, whose std is {number(layer.std)}; that "
            f"of the layer before it is {number(before.std)}",
            "where the nearest code is taken, draw the codes with the std of what is compared with "
            "them",
            f"initfast.init.normal_({module}.weight, 0.0, report.layers[{first - 1}].std)"
            if root and before.std > 0
            else "",
        )
    return None


def _faded(net: Net, first: int, last: int) -> tuple[str, str, str]:
    return (
        "what depends on the input has faded on the way; what is left comes from the biases",
        "draw the weights of these layers larger, or put norms between",
        _drawn_larger(net, first, last),
    )


def _drawn_larger(net: Net, first: int, last: int) -> str:
    """Code for the weights that let nothing pass; for all of these layers where none is known."""
    least = net.limits["weight_lost"]
    weights = {i: x.weight for i in range(first, last + 1) if dense(x := net.layers[i])}
    lost = [i for i, w in weights.items() if w is not None and w.scale < least]
    parts = [net.refill(i, i, net.activation(i)) for i in lost]
    return "\n".join(parts) or net.refill(first, last, net.activation(first))


def _where_samples_meet(net: Net) -> tuple[int, int, float] | None:
    """The output that is the same for every input, after the layer from which on samples are close.

    And its std over the samples, in parts of the first layer's.
    """
    found = {i: over_samples(x).batch_std for i, x in enumerate(net.sound)}
    known = {i: s for i, s in found.items() if s is not None}
    start = next((s for s in known.values() if s > 0), 0.0)
    line = net.limits["constant_output"]
    for i, s in known.items():
        layer = net.layers[i]
        if not layer.is_returned or is_constant(layer) or not s < line * start:
            continue
        if layer.std > 0 and s <= layer.std / 20:  # else small as a whole: vanishing speaks of it
            first = next((j for j in known if j <= i and known[j] < line**0.5 * start), i)
            return first, i, s / start
    return None


def _rows(layer: Layer) -> int:
    """How many rows its output has: samples, or samples times tokens or positions."""
    return layer.post.count // max(units_of(layer), 1)


def _is_plain(layer: Layer) -> bool:
    """Whether it is a product whose activation is zero at zero.

    One that is not, as a sigmoid, gives all samples something in common by itself.
    """
    act = activation_of(layer)
    has_offset = act is not None and _at_zero(act.name, act.alpha, act.beta) != 0
    return layer.op.lower().startswith(("linear", "conv")) and not has_offset


@lru_cache
def _at_zero(name: str, alpha: float, beta: float) -> float:
    zero = torch.zeros((), dtype=torch.float64)
    return float(ACTIVATIONS[name].value(zero, alpha, beta))


def _is_vanishing(net: Net) -> bool:
    """Whether another check says already that what depends on the input fades."""
    found = (f for f in depth.vanishing(net) if isinstance(f, Finding))
    return any(f.severity != "info" for f in found)


def one_direction(net: Net) -> Outcome:
    """All samples end up pointing in one direction, in a net without residual sums."""
    if any(x.op.startswith("add") for x in net.layers) or net.idle_norm is not None:
        return
    line = net.limits["correlation"]
    found = [over_samples(x).correlation for x in net.sound]
    if not any(c is not None and c > line for c in found):
        return  # most nets: what follows looks at every layer's activation
    known = [
        (i, c, _rows(x))
        for i, (x, c) in enumerate(zip(net.sound, found, strict=True))
        if c is not None and x.is_output and _is_plain(x)
    ]
    # Pooling makes other rows, which are alike where images are noise.
    known = [k for k in known if k[2] == known[-1][2]]
    if len(known) < STACK:
        return
    (first, begin, _), (last, end, _) = known[0], known[-1]
    if not (end > line and begin < net.limits["correlation_before"]):
        return
    if _where_samples_meet(net) is not None or _is_vanishing(net):
        return  # which says more
    yield net.finding(
        "one_direction",
        "warning" if end > NO_LONGER_APART else "info",
        (first, last),
        "correlation",
        end,
        f"the correlation of two samples grows from {begin:.3f} to {end:.4f}: the net tells them "
        "apart less and less",
        "a plain stack brings samples together at every layer (Poole et al. 2016)",
        "add residual connections or batch norms",
    )
