"""Checks of the gates of torch's recurrent modules: saturated ones, and those that forget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch

from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net
from initfast.ops.activations import SATURATED_SLOPE
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.recurrence import Recurrence
from initfast.stats.text import dtype_name, number, share

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
"""How many square matrices a recurrent weight holds."""

_TANH_FLAT = math.atanh(math.sqrt(1 - SATURATED_SLOPE))  # a tanh's slope is 1 - tanh²
FLAT = {"RNN": _TANH_FLAT, "LSTM": 2 * _TANH_FLAT, "GRU": 2 * _TANH_FLAT}
"""From which pre-activation on tanh, or a gate's sigmoid, is saturated."""

_NOTHING_LEFT = -1e3
"""In the place of the logarithm of zero: less than a float64 holds."""


def _driven(layer: Layer) -> float:
    """The variance of its first layer's pre-activations, but for the biases'; 0 if not known."""
    within, across = layer.weights.get("weight_ih_l0"), layer.weights.get("weight_hh_l0")
    if within is None or across is None or layer.input is None or not layer.input.finite:
        return 0.0
    x, h = layer.input.rms, layer.post.rms
    return within.scale * x * x + across.scale * h * h


def saturated(net: Net, i: int, kind: str) -> Iterator[Finding]:
    """The input drives the gates to where they are flat."""
    layer = net.layers[i]
    std = _driven(layer) ** 0.5
    if not std > 0 or layer.input is None or (kind == "RNN" and layer.post.largest > 1):
        return  # the state of a ReLU is no tanh's
    flat = math.erfc(FLAT[kind] / std / math.sqrt(2))
    weight, x = layer.weights["weight_ih_l0"], layer.input.rms
    if not flat > net.limits["saturation_early"] or weight.scale * x * x < std * std / 2:
        return  # the recurrent weight's part is told by its spectral radius
    is_severe = flat > net.limits["saturation_severe"]
    what = "its tanh" if kind == "RNN" else "the gates"
    path = f"{layer.name}." if layer.name else ""
    code = (
        f"layer = report.layers[{i}]\n"
        f"for name, weight in layer.weights.items():\n"
        f"    if name.startswith('weight_ih_l0'):\n"
        f"        std = 1 / (layer.input.rms * weight.fan_in**0.5)\n"
        f"        initfast.init.normal_({net.root}.get_parameter({path!r} + name), 0.0, std)"
    )
    yield net.finding(
        "recurrent",
        "error" if is_severe else "warning",
        (i, i),
        "saturation_severe" if is_severe else "saturation_early",
        flat,
        f"the pre-activations of {kind} {layer.name!r} have a std of about {number(std)}: "
        f"{share(flat)} of {what} are where they are flat",
        f"its input has a root mean square of {number(layer.input.rms)}, and fan_in × Var(w) of "
        f"the input's weights is {number(weight.scale)}",
        "normalise the input: x = (x - x.mean()) / x.std(); the code fits the weights to it",
        code if net.root else "",
    )


def least_left(recurrence: Mapping[str, Recurrence]) -> tuple[str, int, float]:
    """Where least is left of a gradient at the first step: the part, its steps, the logarithm."""
    part, found = min(recurrence.items(), key=lambda item: item[1].first_gradient)
    left = found.first_gradient
    return part, found.steps, math.log(left) if left > 0 else _NOTHING_LEFT


def forgetful(net: Net, i: int, kind: str, steps: int) -> Iterator[Finding]:
    """The gates that keep the state keep so little that nothing is left over the sequence.

    A state, and the gradient on its way back, is multiplied by the forget gate of an LSTM at every
    step, by the update gate of a GRU (Jozefowicz, Zaremba & Sutskever 2015).
    """
    layer, part = net.layers[i], "l0"
    gate = "forget" if kind == "LSTM" else "update"
    tiny = math.log(torch.finfo(layer.dtype).smallest_normal)
    if layer.recurrence:
        part, steps, log = least_left(layer.recurrence)
    vectors = layer.vectors or {}
    biases = {n: m for n, m in vectors.items() if n.endswith(f"_{part}.keep")}
    if not biases or steps < 2:
        return
    mean, var = (sum(getattr(m, what) for m in biases.values()) for what in ("mean", "var"))
    if layer.recurrence:
        kept, is_left = layer.recurrence[part].gates[gate].mean, net.log_limit("recurrent_gradient")
    elif (driven := _driven(layer)) > 0:
        # The mean of a sigmoid over a normal, to 2 % (MacKay 1992).
        kept = 1 / (1 + math.exp(min(-mean / math.sqrt(1 + math.pi / 8 * (driven + var)), 700.0)))
        log, is_left = steps * math.log(kept), 2 * tiny
    else:
        return
    if kept >= net.limits["gate_kept"] and log > is_left:
        return
    yield net.finding(
        "recurrent",
        "warning",
        (i, i),
        "gate_kept",
        kept,
        f"the {gate} gates of {kind} {layer.name!r} keep about {kept:.2g} of the state at a step: "
        f"over {steps} steps a gradient falls by 1e{log / math.log(10):.0f}"
        + (f", beyond what {dtype_name(layer.dtype)} holds" if log < tiny else ""),
        f"the {gate} gates' biases have a mean of {number(mean)}",
        "start these biases at 1, or for memories of up to T steps at log(uniform(1, T - 1)) "
        "(Tallec & Ollivier 2018, chrono initialization)",
        _open(net, layer, kind, biases | _others_lost(net, layer), steps),
    )


def _others_lost(net: Net, layer: Layer) -> dict[str, Moments]:
    """The biases of all gates that keep the state where a gradient was measured to be lost."""
    least = net.limits["recurrent_gradient"]
    lost = [f"_{p}.keep" for p, r in (layer.recurrence or {}).items() if r.first_gradient <= least]
    return {n: m for n, m in (layer.vectors or {}).items() if n.endswith(tuple(lost))}


def _open(net: Net, layer: Layer, kind: str, biases: Iterable[str], steps: int) -> str:
    path = f"{layer.name}." if layer.name else ""
    code = ""
    for name in sorted(name.removesuffix(".keep") for name in biases):
        part = f"{net.root}.get_parameter({path + name!r}).data.chunk({GATES[kind]})[1]"
        fill = f"uniform_({part}, 1.0, {max(steps - 1, 3)}.0).log_()"
        code += f"initfast.init.{fill if '_ih_' in name else f'zeros_({part})'}\n"
    return code.rstrip() if net.root else ""
