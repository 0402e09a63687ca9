"""What theory says of a deep net at initialisation, for any activation, at infinite width.

    initfast.theory.gain(torch.tanh)                    # 1.5925..., for any elementwise function
    initfast.theory.q_slope("gelu")                     # 1.144: its gain does not hold the scale
    initfast.theory.half_stable("gelu")                 # weights and biases that do
    initfast.theory.fixed_point("tanh", 2.5, 0.3)       # where variance and correlation settle
    initfast.theory.critical("tanh", sigma_b=0.2)       # sigma_w at the edge of chaos
    initfast.theory.phase_diagram("tanh")               # over a grid of both

An activation is a name in ``initfast.ops.activations.ACTIVATIONS``, an ``nn.Module``, or a function
of a float64 tensor that takes each element alone; kinks and jumps are found, and no derivative is
asked for. Weights have the variance sigma_w² / fan_in, biases sigma_b²; q is the variance of a
pre-activation, so a function is always taken of √q times a standard normal variable.
"""

from __future__ import annotations

from initfast.theory.correlation import correlation_map
from initfast.theory.fixed_points import FixedPoint, fixed_point
from initfast.theory.gains import gain
from initfast.theory.mean_field import chi, mean_field_stds, q_slope, variance_map
from initfast.theory.phase_diagrams import (
    HalfStable,
    PhaseDiagram,
    critical,
    half_stable,
    phase_diagram,
)
from initfast.theory.roots import NoSuchPoint

__all__ = [
    "FixedPoint",
    "HalfStable",
    "NoSuchPoint",
    "PhaseDiagram",
    "chi",
    "correlation_map",
    "critical",
    "fixed_point",
    "gain",
    "half_stable",
    "mean_field_stds",
    "phase_diagram",
    "q_slope",
    "variance_map",
]
