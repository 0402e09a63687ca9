"""The factor on the weights' standard deviation that makes up for an activation."""

from __future__ import annotations

import math

from initfast.errors import ArgumentError
from initfast.theory.elementwise import Activation
from initfast.theory.mesh import Mesh, mesh
from initfast.theory.quadrature import Expectations

_ROUNDING = 1e-24  # of a second moment
KINDS = ("rms", "std", "backward")


def gain(f: Activation | Mesh, kind: str = "rms") -> float:
    """By how much weights before or after an activation must be larger than for a linear layer.

    With Z standard normal, weights of variance gain² / fan_in

    - ``"rms"``: 1 / √E f(Z)², keep the variance of pre-activations from layer to layer: the second
      moment counts, not the variance, as the next layer sums over a mean too (He et al. 2015,
      eq. 7 and 10). The gain of :func:`initfast.init.kaiming_normal_`.
    - ``"std"``: 1 / √Var f(Z), make the activation's std 1 (Brock et al. 2021, "Characterizing
      signal propagation"), for weights whose mean is taken away.
    - ``"backward"``: 1 / √E f'(Z)², keep the gradient's (He et al. 2015, eq. 14).

    torch's table, which :func:`initfast.init.calculate_gain` keeps, has other numbers for tanh
    (5/3 for 1.5925), selu (3/4 for 1) and sigmoid (1 for 1.8462). That the gain keeps a variance of
    1 does not say that it holds it: see :func:`q_slope`.

    Args:
        f: a name in ``initfast.ops.activations.ACTIVATIONS``, with torch's parameters; an
            elementwise module, copied in float64 as it is; or a function of a float64 tensor,
            element by element, with kinks and jumps where it likes.
        kind: "rms", "std" or "backward".

    Returns:
        The gain.

    Raises:
        ArgumentError: a ValueError. No such kind or name; f is not elementwise, deterministic and
            float64, is NaN somewhere, has no second moment, or is constant or jumps where the gain
            asks for its variance or its slope.

    Example:
        >>> round(initfast.theory.gain("relu") ** 2, 12), round(initfast.theory.gain(torch.tanh), 4)
        (2.0, 1.5925)
        >>> round(initfast.theory.gain(nn.SiLU(), "backward"), 4)
        1.6233
    """
    if kind not in KINDS:
        raise ArgumentError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    unit = Expectations(mesh(f))
    name = unit.mesh.f.name
    if not unit.second > 0:
        raise ArgumentError(f"{name} is 0 everywhere; expected a function that passes something on")
    if kind == "rms":
        return 1 / math.sqrt(unit.second)
    if kind == "std":
        if unit.variance <= _ROUNDING * unit.second:
            raise ArgumentError(f"{name} is constant; expected a function that varies")
        return 1 / math.sqrt(unit.variance)
    if unit.squared_slope <= _ROUNDING * unit.second:
        raise ArgumentError(f"{name} is flat everywhere; expected a function with a slope")
    if math.isinf(unit.squared_slope):
        raise ArgumentError(f"{name} jumps, so its squared slope has no mean; expected no jumps")
    return 1 / math.sqrt(unit.squared_slope)
