"""``python -m initfast theory [ACTIVATION]``: what theory says, step by step."""

from __future__ import annotations

from collections.abc import Iterator

from initfast.ops.activations import ACTIVATIONS
from initfast.theory.derivation import activation_steps, bullets, scale_steps, table

_WIDTH = 256


def explanation(activation: str | None = None) -> str:
    """What a linear layer does to the scale, and then an activation, or each of them in a table.

    Args:
        activation: a name in :data:`initfast.ops.activations.ACTIVATIONS`.

    Returns:
        The text, at most 100 columns wide.

    Raises:
        ArgumentError: there is no such activation.

    Example:
        >>> print(explanation("tanh"))  # doctest: +ELLIPSIS
        What a linear layer does to the scale of a signal
        ...
    """
    return "\n".join([*_linear(), "", *(_of_each() if activation is None else _of(activation))])


def _linear() -> Iterator[str]:
    *steps, exploding = scale_steps(_WIDTH, 1.0)
    yield "What a linear layer does to the scale of a signal"
    yield from bullets(steps)
    yield from bullets(
        [
            f"Weights N(0, 1), {_WIDTH} wide: {exploding}",
            f"After 10 such layers the std is 16^10 = {16.0**10:.2g}; the 32nd overflows float32.",
            f"Weights N(0, 1/fan_in): {scale_steps(_WIDTH, 1 / _WIDTH)[-1]} The scale holds.",
        ]
    )


def _of(activation: str) -> Iterator[str]:
    yield f"With {activation} between the layers"
    yield from bullets(activation_steps(activation, _WIDTH))


def _of_each() -> Iterator[str]:
    yield "With an activation between the layers"
    yield from bullets(
        [
            "gain: on the std of the weights, 1 / sqrt(fan_in), keeps q, the variance of the "
            "pre-activations, at 1.",
            "slope: by so much a deviation of q is multiplied at each layer; above 1 the gain does "
            "not hold.",
            "chi: by so much a gradient's square is multiplied at each layer, on the way back.",
        ]
    )
    width = max(map(len, ACTIVATIONS))
    yield f"  {'activation':<{width}}  {'gain':>10}  {'slope':>8}  {'chi':>8}"
    for name, gain, slope, chi in table():
        note = "  does not hold" if slope > 1 + 1e-6 else ""
        yield f"  {name:<{width}}  {gain:>10.8f}  {slope:>8.5f}  {chi:>8.5f}{note}"
    yield "python -m initfast theory NAME: more of one"
