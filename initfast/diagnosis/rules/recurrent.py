"""Checks of torch's recurrent modules: the steps run inside one call, so by theory.

A gate's pre-activation has the variance that its weights make of the input and of the state, both
measured, and the mean of its biases. With `measure="recurrent"` what happens from step to step is
measured, and takes the place of theory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch

from initfast.diagnosis.findings import Finding, SkippedCheck
from initfast.diagnosis.net import Net, Outcome
from initfast.diagnosis.rules import gates
from initfast.stats.layer import Layer
from initfast.stats.text import dtype_name, number
from initfast.stats.weight import Weight

FIRST = "weight_ih_l0"
"""Takes the input of the module itself."""

IDENTITY = 0.01
"""So near to 1 is the mean of the sums of the rows of an identity."""


def recurrent(net: Net) -> Outcome:
    """A recurrent weight makes the state saturate, or lets nothing of the input in."""
    seen: set[str] = set()
    for i, layer in enumerate(net.sound):
        kind = kind_of(layer)
        if kind is None or not layer.weights or layer.name in seen:
            continue
        seen.add(layer.name)
        yield from _wide(net, i, kind)
        yield from _closed(net, i)
        yield from _fading(net, i, kind)
        yield from gates.saturated(net, i, kind)
        yield from gates.forgetful(net, i, kind, _steps(net, i))
        if layer.recurrence is None:
            yield SkippedCheck(
                "recurrent",
                f"what happens from step to step inside {layer.name!r} ({kind}) is not measured, "
                "nor how gradients fade over the steps: its weights, input and output are judged; "
                'pass measure="recurrent" for the steps',
            )


def kind_of(layer: Layer) -> str | None:
    """RNN, LSTM or GRU; None of any other module."""
    return next((base for base in (*layer.bases, layer.type) if base in gates.GATES), None)


def radius(layer: Layer) -> dict[str, float]:
    """Of each recurrent weight the spectral radius: measured, or that of random entries.

    That is the std times the root of the width (Girko 1985), or the eigenvalue that the entries'
    mean makes, where that is larger (Tao 2013).
    """
    found = {n: w for n, w in layer.weights.items() if n.startswith("weight_hh")}
    random = {
        n: max(w.std * math.sqrt(w.fan_in), w.fan_in * abs(w.moments.mean))
        for n, w in found.items()
    }
    measured = {f"weight_hh_{part}": r for part, r in (layer.recurrence or {}).items()}
    return {n: measured[n].spectral_radius if n in measured else r for n, r in random.items()}


def _wide(net: Net, i: int, kind: str) -> Iterator[Finding]:
    layer = net.layers[i]
    radii = {n: r for n, r in radius(layer).items() if r > net.limits["spectral_radius"]}
    if not radii:
        yield from _growing(net, i, kind)
        return
    most = max(radii.values())
    yield net.finding(
        "recurrent",
        "error" if most > net.limits["spectral_radius"] ** 2 else "warning",
        (i, i),
        "spectral_radius",
        most,
        f"the recurrent weight of {kind} {layer.name!r} has a spectral radius of about {most:.3g}",
        "at every step it multiplies the state by as much: the state saturates or grows, and so "
        "do gradients",
        "start it orthogonal (Saxe et al. 2014): a spectral radius of 1",
        _orthogonal(net, layer, kind, radii),
    )


def _growing(net: Net, i: int, kind: str) -> Iterator[Finding]:
    """The gradient grows on its way from the last step to the first, as was measured."""
    layer = net.layers[i]
    if not layer.recurrence:
        return
    part, found = max(layer.recurrence.items(), key=lambda item: item[1].first_gradient)
    grown, most = found.first_gradient, net.limits["gradient_explosion"]
    if not grown > most:
        return
    yield net.finding(
        "recurrent",
        "error" if grown > most**2 else "warning",
        (i, i),
        "gradient_explosion",
        grown,
        f"over the {found.steps} steps of {kind} {layer.name!r} ({part}) a gradient grows by "
        f"{number(grown)}",
        f"its recurrent weight has a spectral radius of {number(found.spectral_radius)}",
        "start it orthogonal (Saxe et al. 2014): a spectral radius of 1; clip the gradient "
        "(Pascanu, Mikolov & Bengio 2013)",
        _orthogonal(net, layer, kind, [f"weight_hh_{part}"]),
    )


def _fading(net: Net, i: int, kind: str) -> Iterator[Finding]:
    """A plain recurrent net's gradient falls by its weight's spectral radius at every step.

    Its activation's slope, at most 1, makes it less (Pascanu, Mikolov & Bengio 2013). The gates of
    the others have a way around the weight.
    """
    layer, steps = net.layers[i], _steps(net, i)
    least = min(radius(layer).values(), default=1.0)
    is_small = least < net.limits["spectral_radius_lost"]
    if kind != "RNN" or not 0 < least < 1:
        return
    tiny = math.log(torch.finfo(layer.dtype).smallest_normal)
    log, limit = steps * math.log(least), tiny if is_small else 2 * tiny
    if layer.recurrence:
        _, steps, log = gates.least_left(layer.recurrence)
        limit = net.log_limit("recurrent_gradient")
    if log > limit:
        return
    yield net.finding(
        "recurrent",
        "warning",
        (i, i),
        "spectral_radius_lost",
        least,
        f"the recurrent weight of {kind} {layer.name!r} has a spectral radius of about "
        f"{least:.3g}: over {steps} steps a gradient falls by 1e{log / math.log(10):.0f} or more, "
        f"beyond what {dtype_name(layer.dtype)} holds",
        "what the first steps were given has no influence, and they learn nothing",
        "start it orthogonal (Saxe et al. 2014): a spectral radius of 1",
        _orthogonal(net, layer, kind, radius(layer)),
    )


def _steps(net: Net, i: int) -> int:
    """How many steps the module that has made layer i went through; 1 where it is not known.

    Its output has as many, and its last state, another output of it, as many sequences.
    """
    layer = net.layers[i]
    states = [x for x in net.layers[i + 1 :] if x.name == layer.name and x.op != layer.op]
    if len(layer.shape) < 2 or not states or len(states[0].shape) != len(layer.shape):
        return 1  # of packed sequences the output has the rows of all
    if len(layer.shape) == 2:
        return layer.shape[0]
    sequences = states[0].shape[1]
    return layer.shape[1] if layer.shape[0] == sequences else layer.shape[0]


def _orthogonal(net: Net, layer: Layer, kind: str, names: Iterable[str]) -> str:
    """Code that draws these recurrent weights anew, each of a gate's matrices orthogonal."""
    path = f"{layer.name}." if layer.name else ""
    code = "".join(
        f"for part in {net.root}.get_parameter({path + name!r}).data.chunk({gates.GATES[kind]}):\n"
        "    initfast.init.orthogonal_(part)\n"
        for name in names
    )
    return code.rstrip() if net.root else ""


def _is_identity(weight: Weight) -> bool:
    """Whether a state sums what it is given, as where its weight begins as the identity.

    So does IRNN's, whose input's weights begin at a std of 1e-3 (Le, Jaitly & Hinton 2015).
    """
    return abs(weight.fan_in * weight.moments.mean - 1) < IDENTITY


def _closed(net: Net, i: int) -> Iterator[Finding]:
    layer = net.layers[i]
    inner = {n: w for n, w in layer.weights.items() if n.startswith("weight_ih")}
    large = (
        max(layer.input.rms * layer.input.rms, 1.0) if layer.input else 1.0
    )  # a large input has small weights
    reach = {n: w.scale * (large if n.startswith(FIRST) else 1.0) for n, w in inner.items()}
    small = {n: inner[n] for n, r in reach.items() if 0 < r < net.limits["weight_lost"] ** 0.5}
    if not small or any(_is_identity(w) for n, w in layer.weights.items() if "_hh_" in n):
        return
    path = f"{layer.name}." if layer.name else ""
    least = min(w.scale for w in small.values())
    code = "".join(
        f"w = {net.root}.get_parameter({path + name!r})\ninitfast.init.xavier_uniform_(w)\n"
        for name in small
    )
    yield net.finding(
        "recurrent",
        "warning",
        (i, i),
        "weight_lost",
        least,
        f"fan_in × Var(w) of the input's weights of {layer.name!r} is {number(least)}: next to "
        "nothing of the input reaches the state",
        "",
        "draw them anew",
        code.rstrip() if net.root else "",
    )
