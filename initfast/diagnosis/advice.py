"""Which scale the weights need before an activation, and the initialiser that gives it."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

from initfast.ops.activations import ACTIVATIONS
from initfast.stats.layer import Layer
from initfast.theory.mesh import Mesh, mesh
from initfast.theory.quadrature import Expectations

RIGHT = 1.25
"""A weight's scale is called right within this factor of what holds the scale."""


class Cause(NamedTuple):
    """Why, what to do, and that in code; each may be empty."""

    cause: str = ""
    advice: str = ""
    code: str = ""


@cache
def activation_in(op: str) -> str | None:
    """The activation that an operator ends in; None where it has none."""
    name = op.rpartition(" + ")[2]
    return name if name in ACTIVATIONS and name != "identity" else None


class Act(NamedTuple):
    """An activation: its name in :data:`initfast.ops.activations.ACTIVATIONS`, and its numbers."""

    name: str
    alpha: float
    beta: float

    @classmethod
    def named(cls, name: str) -> Act:
        """That of torch's default numbers."""
        return cls(name, *ACTIVATIONS[name].defaults)


@cache
def _mesh(act: Act, what: str) -> Mesh:
    function = getattr(ACTIVATIONS[act.name], what)
    return mesh(lambda z: function(z, act.alpha, act.beta))


def slope_mesh(act: Act) -> Mesh:
    """Where an activation's slope is smooth."""
    return _mesh(act, "slope")


def activation_of(layer: Layer) -> Act | None:
    """The activation that a layer ends in; None where it has none."""
    name = activation_in(layer.op)
    if name is None:
        return None
    known = layer.alpha is not None and layer.beta is not None
    return Act(name, layer.alpha, layer.beta) if known else Act.named(name)  # type: ignore[arg-type]


class Behaviour(NamedTuple):
    """What an activation does where it holds the scale, to normal pre-activations.

    Attributes:
        needed: the fan-in times the variance of the weights at which the scale holds.
        passes: by how much that multiplies the square of a small difference, or of a gradient.
        drifts: by how much a deviation of the scale, relative, grows from layer to layer.
    """

    needed: float
    passes: float
    drifts: float


@cache
def behaviour(act: Act, std: float = 1.0) -> Behaviour:
    """By the length map q -> v E[act(√q Z)^2] and its slope (Poole et al. 2016), at q = std^2."""
    at = Expectations(_mesh(act, "value"), 0.0, std)
    if not at.second > 0:
        return Behaviour(1.0, 0.0, 1.0)
    needed = std * std / at.second
    return Behaviour(needed, needed * at.squared_slope, needed * at.slope_of_second)


_STDS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)

MOST_DRIFT = 3.0
"""By so much may a deviation of the scale grow over all layers: chance makes one, as widths end."""


def steady_std(act: Act, depth: int) -> float | None:
    """The least std of the pre-activations, of some from 1 to 8, that so many layers hold.

    GELU, SiLU and their like are nearly ReLU where their input is wide, and ReLU holds any scale;
    at a std of 1 what deviates from it runs away, either way.

    Example:
        >>> steady_std(Act.named("gelu"), 5), steady_std(Act.named("gelu"), 40)
        (1.0, 3.0)
    """
    most = math.log(MOST_DRIFT)
    return next((s for s in _STDS if depth * math.log(behaviour(act, s).drifts) <= most), None)


@cache
def needed(act: Act | str | None) -> float:
    """The fan-in times the variance of the weights at which the scale holds from layer to layer.

    2 for ReLU (He et al. 2015); 1 for none, for tanh, where it is also critical (Schoenholz et al.
    2017), and for SELU (Klambauer et al. 2017); else 1 / E[act(Z)^2], Z standard normal. A name
    stands for the activation of torch's default numbers.

    Example:
        >>> needed("relu"), needed("tanh"), round(needed(Act("leaky_relu", 0.5, 0.0)), 2)
        (2.0, 1.0, 1.6)
    """
    act = Act.named(act) if isinstance(act, str) else act
    if act is None:
        return 1.0
    known = ACTIVATIONS[act.name].scale(act.alpha, act.beta)
    return behaviour(act).needed if known is None else known


def call(act: Act | str | None, by_fan: bool = False, std: float = 1.0) -> str:
    """The initialiser to use before an activation, as code with ``w`` for the weight.

    Args:
        act: the activation, or the name of one of torch's default numbers.
        by_fan: take the fan-in from ``layer``, as where w is not laid out as a linear layer's.
        std: what the pre-activations' is to be.
    """
    act = Act.named(act) if isinstance(act, str) else act
    scale = behaviour(act, std).needed if act is not None and std != 1 else needed(act)
    if std != 1 and not by_fan:
        return f"initfast.init.variance_scaling_(w, {scale:.4g})"
    if by_fan:
        return f"initfast.init.normal_(w, 0.0, ({scale:.4g} / layer.weight.fan_in) ** 0.5)"
    if act is not None and act.name == "relu":
        return 'initfast.init.kaiming_normal_(w, nonlinearity="relu")'
    if act is not None and act.name == "leaky_relu":
        return f'initfast.init.kaiming_normal_(w, {act.alpha:g}, nonlinearity="leaky_relu")'
    if scale == 1:
        return "initfast.init.lecun_normal_(w)"
    return f"initfast.init.variance_scaling_(w, {scale:.3g})"
