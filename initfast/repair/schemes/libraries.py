"""What frameworks draw by default: PyTorch, Keras and Flax."""

from __future__ import annotations

import math

from initfast.repair.roles import Role
from initfast.repair.schemes.law import (
    Law,
    constant,
    normal,
    orthogonal,
    packed,
    truncated_to,
    uniform,
)
from initfast.repair.schemes.scheme import Scheme, any_net, simple


def torchs(role: Role) -> Law | None:
    """kaiming_uniform_(a=√5) is U(-1/√fan_in, 1/√fan_in), and biases have the same bound."""
    if role.kind == "norm":
        return simple(role)
    if role.kind == "recurrent":
        hidden = role.fan_out if role.fan_out else role.shape[0] // role.gates
        return uniform(1 / math.sqrt(3 * hidden), "U(±1 / √hidden)")
    if role.use == "embedding" or (role.kind == "embedding"):
        return normal(1.0, "N(0, 1)")
    if role.kind not in ("linear", "conv"):
        return None
    if role.torchs_attention:
        if role.part == "bias":
            return constant(0.0, "attention's")
        return uniform(math.sqrt(2 / (role.fan_in + role.fan_out * role.parts)), "Xavier")
    fan_in = _torchs_fan_in(role)
    if not fan_in:
        return None
    return uniform(1 / math.sqrt(3 * fan_in), "U(±1 / √fan_in)")


def _torchs_fan_in(role: Role) -> int:
    """torch takes a transposed convolution's second dimension for its inputs."""
    return role.fan_out if role.transposed else role.fan_in


def _keras(role: Role) -> Law | None:
    if role.kind == "recurrent":
        return _recurrent(role, xavier=True)
    known = simple(role)
    if known is not None:
        return known
    if role.kind == "embedding":
        return uniform(0.05 / math.sqrt(3), "U(±0.05)")
    if role.kind not in ("linear", "conv") or not role.fan_in:
        return None
    fan_out = role.fan_out * role.parts
    return uniform(math.sqrt(2 / (role.fan_in + fan_out)), "Glorot uniform")


def _recurrent(role: Role, xavier: bool) -> Law:
    if role.part == "bias":
        return constant(0.0, "a bias")
    if role.use == "state":
        return packed(*[orthogonal(1.0, "recurrent")] * role.gates)
    if xavier:
        return uniform(math.sqrt(2 / (role.fan_in + role.fan_out * role.parts)), "Glorot uniform")
    return truncated_to(1 / math.sqrt(role.fan_in), "LeCun")


def _flax(role: Role) -> Law | None:
    if role.kind == "recurrent":
        return _recurrent(role, xavier=False)
    known = simple(role)
    if known is not None:
        return known
    if role.kind == "embedding":
        return normal(1 / math.sqrt(role.fan_out), "1 / √features")
    if role.kind not in ("linear", "conv") or not role.fan_in:
        return None
    return truncated_to(1 / math.sqrt(role.fan_in), "LeCun normal")


def _scheme(name: str, source: str, rule: object) -> Scheme:
    return Scheme(name, "any net", source, rule, any_net)  # type: ignore[arg-type]


SCHEMES = (
    _scheme("torch", "torch.nn's reset_parameters", torchs),
    _scheme("keras", "Keras 3's defaults", _keras),
    _scheme("flax", "Flax's defaults", _flax),
)
