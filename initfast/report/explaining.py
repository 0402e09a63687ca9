"""What a layer did to the scale of the signal, derived step by step with its own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from initfast.errors import ArgumentError
from initfast.ops.activations import ACTIVATIONS
from initfast.prediction.signal import fits
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import number, shown
from initfast.stats.weight import Weight
from initfast.theory.derivation import activation_steps, bullets, scale_steps
from initfast.theory.mean_field import chi, variance_map


def explanation(layer: Layer) -> str:
    """The derivation for one layer of a report.

    Args:
        layer: with its input and weight as far as they were measured.

    Returns:
        A heading, then a step a paragraph; what theory says stands beside what was measured.

    Source:
        He et al. 2015, eq. 5 to 7; Poole et al. 2016; Schoenholz et al. 2017.

    Example:
        >>> net = nn.Sequential(nn.Linear(256, 256), nn.ReLU())
        >>> print(explanation(initfast.profile(net, torch.randn(64, 256))[0]))  # doctest: +ELLIPSIS
        '0' (linear + relu)
        What the weights make of the input
          - A unit sums over its 256 inputs: ...
    """
    lines = [f"{layer.name or 'the net'!r} ({layer.op})"]
    weight = () if layer.weight is None else (layer.weight.moments,)
    known = (layer.input, layer.pre, layer.post, layer.grad, *weight)
    if any(m is not None and m.finite and not fits(m) for m in known):
        beyond = "Some of its values are such that float64 does not hold their fourth powers"
        return "\n".join([*lines, *bullets([f"{beyond}: nothing is derived here."])])
    lines += _weights(layer)
    lines += _activation(layer)
    lines += _way_back(layer)
    return shown("\n".join(lines))


def _weights(layer: Layer) -> Iterator[str]:
    yield "What the weights make of the input"
    weight, x = layer.weight, layer.input
    if weight is None or x is None or not x.finite:
        yield from bullets([_without_weight(layer)])
        return
    result, fan_in = layer.pre or layer.post, weight.fan_in
    square = x.rms * x.rms
    *steps, last = scale_steps(fan_in, weight.moments.var, square)
    yield from bullets([*steps, f"Here: {last}", _beside(weight, x, result)])
    ones, held = scale_steps(fan_in, 1.0, square), scale_steps(fan_in, 1 / fan_in, square)
    yield from bullets([f"Weights N(0, 1): {ones[-1]}", f"Weights N(0, 1/fan_in): {held[-1]}"])


def _without_weight(layer: Layer) -> str:
    if layer.weights:
        names = ", ".join(layer.weights)
        return f"It has several weights ({names}), and no one sum that the derivation is of."
    said = "It has no weight whose fan_in was measured, so that nothing is derived here."
    if layer.input is None or not layer.input.finite:
        return said
    return (
        f"{said} Measured: the rms of its input is {number(layer.input.rms)}, that of its output "
        f"{number(layer.rms)}."
    )


def _beside(weight: Weight, x: Moments, result: Moments) -> str:
    """What was measured, beside fan_in Var(w) E x^2, and what the formula leaves out."""
    expected = weight.fan_in * weight.moments.var * x.rms * x.rms
    said = f"Measured: the std of y is {number(result.std)}, its rms {number(result.rms)}"
    if expected > 0 and result.finite:
        said += f", {number(result.rms / math.sqrt(expected))} times what the weights say"
    return (
        f"{said}. What the derivation leaves out: the biases, the weights' mean "
        f"({number(weight.moments.mean)}), padding, and weights that were fitted to their inputs."
    )


def _activation(layer: Layer) -> Iterator[str]:
    name = layer.op.rpartition(" + ")[2]
    if name not in ACTIVATIONS or name == "identity" or layer.pre is None or not layer.pre.finite:
        return
    width = layer.units or (layer.shape[-1] if layer.shape else 1)
    yield f"What {name} makes of it"
    function, rms = _function(layer, name), layer.post.rms
    measured = f"Measured: {rms * rms:.4g}, the E x^2 of the next layer."
    own = None if function == name else function
    try:
        if (q := layer.pre.rms * layer.pre.rms) > 0:
            square = variance_map(function, q, 1.0)
            yield from bullets([f"Of y = N(0, {q:.4g}), E {name}(y)^2 = {square:.4g}. {measured}"])
        yield from bullets(activation_steps(name, width, own))
    except ArgumentError as error:
        yield from bullets([f"Theory has no number here: {error}. {measured}"])


def _function(layer: Layer, name: str) -> str | Callable[[Tensor], Tensor]:
    """The activation with the layer's own numbers."""
    known = ACTIVATIONS[name]
    alpha, beta = layer.alpha, layer.beta
    if alpha is None or beta is None or (alpha, beta) == known.defaults:
        return name

    def function(z: Tensor) -> Tensor:
        return known.value(z, alpha, beta)

    function.__name__ = name
    return function


def _way_back(layer: Layer) -> Iterator[str]:
    weight, grad = layer.weight, layer.grad
    name = layer.op.rpartition(" + ")[2]
    if weight is None or weight.fan_in < 1:
        return
    yield "What a gradient becomes on its way back"
    squared_slope, z = 1.0, layer.pre
    if z is not None and name in ACTIVATIONS and z.rms > 0:
        try:
            squared_slope = chi(_function(layer, name), z.rms * z.rms, 1.0)
        except ArgumentError as error:
            yield from bullets([f"Theory has no E f'(y)^2 here: {error}."])
            return
    x = layer.input  # of a linear layer the quotient of the sizes is that of the fans
    sums = weight.fan_in * layer.post.count / x.count if x and x.count else weight.fan_out
    reached = f"{sums:.4g}"
    factor = sums * weight.moments.var * squared_slope
    steps = [
        f"Each input reaches {reached} outputs, so the gradient's square is multiplied by "
        f"fan_out Var(w) E f'(y)^2 = {reached} * {weight.moments.var:.4g} * "
        f"{squared_slope:.4g} = {factor:.4g}, its rms by {math.sqrt(factor):.4g}."
    ]
    if grad is not None and grad.finite:
        steps.append(
            f"Measured at the output: rms {number(grad.rms)}; at the input theory expects "
            f"{number(grad.rms * math.sqrt(factor))}."
        )
    yield from bullets(steps)
