"""Checks of single layers: saturation, dead units, collapse, drift."""

from __future__ import annotations

import math

from initfast.diagnosis.advice import activation_in, activation_of, needed
from initfast.diagnosis.facts import dense, is_constant, spans, squares, squares_in_words, units_of
from initfast.diagnosis.findings import SkippedCheck
from initfast.diagnosis.net import DEVIATIONS, Net, Outcome
from initfast.diagnosis.norms import is_norm
from initfast.ops.activations import CLAMPS, GATES, RECTIFIERS
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import number, share
from initfast.stats.weight import Weight

CONFIDENCE = 0.95


def saturation(net: Net) -> Outcome:
    """An activation works where it is flat and passes no gradient."""
    if net.idle_norm is not None:
        yield net.idle("saturation")
        return
    for act in dict.fromkeys(activation_in(layer.op) for layer in net.sound):
        if act is None:
            continue
        kind = "clamp" if act in CLAMPS else "saturation"
        early, severe = f"{kind}_early", f"{kind}_severe"
        bad = [
            i
            for i, layer in enumerate(net.sound)
            if activation_in(layer.op) == act
            and layer.saturated > net.limits[early]
            and not net.is_prior(i)
        ]
        for first, last in spans(bad):
            members = [i for i in bad if first <= i <= last]
            worst = max(members, key=lambda i: net.layers[i].saturated)
            most = net.layers[worst].saturated
            is_severe = most > net.limits[severe]
            yield net.finding(
                "saturation",
                "error" if is_severe else "warning",
                (first, last),
                severe if is_severe else early,
                most,
                f"up to {share(most)} of {act}'s outputs are where it is flat (layer {worst})",
                *_too_wide(net, worst, (first, last)),
            )


def _too_wide(net: Net, i: int, span: tuple[int, int]) -> tuple[str, str, str]:
    """Why a pre-activation is too wide: the weight or the input."""
    layer, act = net.layers[i], activation_of(net.layers[i])
    wide = f"the pre-activation's std is {number(layer.pre.std)}" if layer.pre else ""
    if layer.weight is None or layer.input is None:
        return wide, "bring the input of the activation to a std of about 1", ""
    scale, rms = squares(layer.weight), layer.input.rms
    if layer.pre and abs(layer.pre.mean) > layer.pre.std and _is_bias(layer, layer.pre):
        return (
            f"{wide} around a mean of {number(layer.pre.mean)}, which is the bias",
            "start the bias at zero",
            net.zero_biases(*span),
        )
    if rms > 3:
        code = net.refill_for_inputs(*span)
        return (
            f"{wide}: the input's root mean square is {number(rms)}",
            "normalise the input: x = (x - x.mean()) / x.std()"
            + ("; the code fits the weights to it" if code else ""),
            code,
        )
    of_weight, name = squares_in_words(layer.weight), act.name if act else "it"
    return (
        f"{wide}: fan_in × {of_weight} is {scale:.3g} where {name} works at {needed(act):.3g}",
        f"use an initialiser of variance {needed(act):.3g} / fan_in",
        net.refill(*span, act),
    )


def dead_units(net: Net) -> Outcome:
    """Most units of a layer are zero over the whole batch."""
    too_few: list[int] = []  # the samples of layers on which they tell nothing
    for i, layer in enumerate(net.sound):
        n, dead = layer.units or 0, layer.dead_units or 0
        samples = layer.post.count // (n or 1)
        limit = n * net.limits["dead_units"]
        if not _may_die(layer) or not samples or dead <= limit or i in net.after_constant:
            continue
        active = _least_active(layer)
        if active > net.limits["unit_activity"]:
            too_few.append(samples)
            continue
        if dead < n and dead < limit + DEVIATIONS * math.sqrt(n) / 2:
            continue
        yield net.finding(
            "dead_units",
            "error" if dead / n > net.limits["dead_units_severe"] else "warning",
            (i, i),
            "dead_units",
            dead / n,
            f"{dead} of {n} units are zero on all {samples} samples: each is active "
            f"on under {share(round(active, 4))} of inputs",
            _why_dead(layer),
            "start its bias at zero and its weight with mean zero; a leaky ReLU cannot die",
            _start_anew(net, i),
        )
    if too_few:
        said = f"{len(too_few)} layers have most units at zero, but {max(too_few)} samples tell"
        yield SkippedCheck("dead_units", f"{said} too little: {_enough(net)}")
    if alone := sum(map(_is_one_sample, net.sound)):
        said = f"{alone} layers have one value a unit, as of a single sample"
        yield SkippedCheck("dead_units", f"{said}: {_enough(net)}")


def _is_one_sample(layer: Layer) -> bool:
    """Whether a rectifier has one value of each unit, where a zero tells nothing."""
    alone = layer.dead_units is None and layer.pre is not None and layer.post.count > 0
    is_rectifier = activation_in(layer.op) in RECTIFIERS
    return alone and is_rectifier and layer.post.count == layer.shape[-1]


def _may_die(layer: Layer) -> bool:
    """Whether a unit of it that is always zero learns nothing."""
    act = activation_in(layer.op)
    if layer.dead_units is None or act is None or not layer.units:
        return False
    # Of zeros alone, where its slope is not zero, a unit learns.
    return act in RECTIFIERS or not layer.pre or layer.pre.zero < layer.post.zero


def _enough(net: Net) -> str:
    """How many samples would tell that a unit is never active."""
    if (rare := net.limits["unit_activity"]) <= 0:
        return "no batch tells that a unit is never active"
    need = math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - rare))
    return f"pass a batch of {need} or more"


def _least_active(layer: Layer) -> float:
    """The share of inputs that a unit which was never active may yet be active on."""
    samples = layer.post.count // (layer.units or 1)
    return 1 - (1 - CONFIDENCE) ** (1 / samples) if samples else 1.0


def _start_anew(net: Net, i: int) -> str:
    """Code that fills a layer's weight anew and makes its bias, if it has one, zero.

    Few units may be dead again at once. At the net's end their rectifier is left out, and the bias
    moved to where half of the pre-activations that were measured are positive.
    """
    layer = net.layers[i]
    code = net.refill(i, i, activation_of(layer))
    if is_norm(layer):
        return net.restart_norm(i)
    if not code or not layer.type:
        return code
    bias = f'bias = getattr({net.root}.get_submodule({layer.name!r}), "bias", None)\n'
    if layer.is_returned and units_of(layer) < net.limits["few_units"] and layer.pre:
        types = zip(layer.also, layer.also_types, strict=False)
        act = next((name for name, kind in types if "LU" in kind), "")
        identity = "torch.nn.Identity()"
        drop = f"import torch\n{net.root}.set_submodule({act!r}, {identity})\n" if act else ""
        return f"{drop}{bias}if bias is not None:\n    bias.data.sub_(report.layers[{i}].pre.mean)"
    return f"{code}\n{bias}if bias is not None:\n    initfast.init.zeros_(bias)"


def _why_dead(layer: Layer) -> str:
    if layer.pre is None:
        return ""
    mean, std = layer.pre.mean, layer.pre.std
    return f"the pre-activation has mean {number(mean)} and std {number(std)}"


def collapse(net: Net) -> Outcome:
    """The output is constant, or nearly so beside its mean."""
    for i, layer in enumerate(net.sound):
        post = layer.post
        act = activation_in(layer.op)
        if not (dense(layer) or act) or post.finite < 8 or i in net.after_constant:
            continue
        if act in GATES:
            continue  # a gate is a constant 1/2 where its input is small, and loses nothing
        if not post.std <= net.limits["collapse"] * abs(post.mean):
            continue
        if is_constant(layer):
            continue  # a constant weight: symmetric_units speaks of it
        if (
            act in RECTIFIERS
            and not post.rms
            and _least_active(layer) > net.limits["unit_activity"]
        ):
            continue  # few samples; of many, dead_units speaks too
        if net.is_prior(i) and _is_bias(layer, layer.pre or post):
            continue
        if post.std == 0 and layer.input is not None and not layer.input.m2:
            continue  # constant before
        yield net.finding(
            "collapse",
            "error" if post.std == 0 else "warning",
            (i, i),
            "collapse",
            post.std / abs(post.mean) if post.mean else 0.0,
            f"the output is {number(post.mean)} "
            f"{f'with a std of {number(post.std)} only' if post.std else 'everywhere'}",
            _why_dead(layer),
            "start the bias at zero and the weight with the right variance",
            _start_anew(net, i),
        )


def mean_drift(net: Net) -> Outcome:
    """The mean before an activation is far from zero, so that units are all on or all off."""
    bad: dict[int, float] = {}
    for i, layer in enumerate(net.sound):
        z = layer.pre or layer.post
        units = units_of(layer)
        if not dense(layer) or not z.std > 0 or units < net.limits["few_units"]:
            continue
        drift = abs(z.mean) / z.std
        # The mean over n units of mean zero has a deviation of 1/√n of theirs.
        if drift > max(net.limits["mean_shift"], 4 / math.sqrt(units)):
            if not (net.is_prior(i) and _is_bias(layer, z)):
                bad[i] = drift
    for first, last in spans(bad):
        worst = max((i for i in bad if first <= i <= last), key=bad.__getitem__)
        layer = net.layers[worst]
        z = layer.pre or layer.post
        is_far = bad[worst] > net.limits["mean_drift"]
        yield net.finding(
            "mean_drift",
            "warning" if is_far else "info",
            (first, last),
            "mean_drift" if is_far else "mean_shift",
            bad[worst],
            f"at layer {worst} the mean is {number(z.mean)} beside a std of {number(z.std)}",
            *_why_drift(net, worst, z, (first, last)),
        )


def _why_drift(net: Net, i: int, z: Moments, span: tuple[int, int]) -> tuple[str, str, str]:
    layer = net.layers[i]
    if layer.weight is None or layer.input is None:
        return "", "", ""
    part, chance = _explained(layer, layer.weight, layer.input)
    if part * z.mean > 0 and abs(part) > abs(z.mean) / 2:
        return (
            f"the weights have mean {number(layer.weight.moments.mean)}, the input "
            f"{number(layer.input.mean)}, and each output sums {layer.weight.fan_in} products",
            "use weights of mean zero",
            net.refill(*span, activation_of(layer)),
        )
    if not _is_bias(layer, z):
        return "", "look at the weights and the bias of these layers", ""
    return (
        f"the bias: random weights of this variance leave a mean of {number(chance)} at most",
        "start the bias at zero",
        net.zero_biases(*span),
    )


def _is_bias(layer: Layer, z: Moments) -> bool:
    """Whether the mean before the activation is the bias, as the weights do not explain it."""
    if layer.weight is None or layer.input is None:
        return False
    return abs(z.mean) >= sum(map(abs, _explained(layer, layer.weight, layer.input)))


def _explained(layer: Layer, weight: Weight, x: Moments) -> tuple[float, float]:
    """The mean that the weights' own mean makes, and that which chance may."""
    part = weight.fan_in * weight.moments.mean * x.mean
    return part, DEVIATIONS * math.sqrt(weight.scale / units_of(layer)) * x.rms


def unit_variance(net: Net) -> Outcome:
    """The std before the activation is far from 1, which LSUV makes it.

    Asked of layers that follow each other with nothing between: a norm sets the scale by itself,
    and what a residual branch adds should be small.
    """
    members = sorted({i for run in net.runs for i in run})
    if not members:
        yield SkippedCheck("unit_variance", "no three layers with weights follow one another")
        return
    stds = {i: (net.layers[i].pre or net.layers[i].post).std for i in members}
    off = {i: s for i, s in stds.items() if not abs(s - 1) <= net.limits["unit_std"]}
    far = {i: abs(math.log(s)) if s > 0 else math.inf for i, s in off.items()}
    if off and max(far.values()) > math.log(max(net.limits["unit_factor"], 1)):
        worst = max(far, key=far.__getitem__)
        yield net.finding(
            "unit_variance",
            "info",
            (min(off), max(off)),
            "unit_std",
            off[worst],
            f"{len(off)} of {len(stds)} layers with weights have a pre-activation std that is not "
            f"1 within {net.limits['unit_std']:g}; furthest: {number(off[worst])} at layer {worst}",
        )
