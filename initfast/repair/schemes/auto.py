"""The scheme "auto": for each parameter what its place asks for, by the activation that follows."""

from __future__ import annotations

import math

from initfast.diagnosis.advice import Act, needed
from initfast.repair.roles import Role
from initfast.repair.schemes.law import Law, constant, normal, orthogonal, packed
from initfast.repair.schemes.published import is_last, siren
from initfast.repair.schemes.scheme import Scheme, any_net, simple
from initfast.theory.phase_diagrams import HalfStable, half_stable
from initfast.theory.roots import NoSuchPoint

_HALF_STABLE = ("gelu", "gelu_tanh", "silu", "mish")


def _auto(role: Role) -> Law | None:
    if role.kind == "recurrent":
        return _recurrent(role)
    if role.kind == "norm":
        return simple(role)
    if role.sine or (role.net.sine and is_last(role)):
        return siren(role)
    if role.part == "bias":
        pair = _pair(role)
        if pair is None:
            return constant(0.0, "a bias")
        return normal(pair.sigma_b, f"half-stable with its weight, {_name(role)} follows")
    if role.use in ("position", "token"):
        return normal(0.02, "added to what is embedded")
    if role.kind == "embedding":
        if role.tied:
            return normal(1 / math.sqrt(role.fan_out), "1 / √width, its transpose is the head")
        return normal(1.0, "1, it begins the stream")
    if role.kind not in ("linear", "conv") or not role.fan_in:
        return None
    return _weight(role)


def _weight(role: Role) -> Law:
    fan = 1 / math.sqrt(max(role.fan_in // role.stride, 1))
    if role.ends_branch and role.kind != "norm":
        n = max(role.net.branches, 1)
        return normal(fan / math.sqrt(n), f"1 / √fan_in / √branches, of {n} branches")
    if role.use == "head":
        return normal(1 / role.fan_in, "a head, 1 / fan_in")
    pair = _pair(role)
    if pair is not None:
        return normal(pair.sigma_w * fan, f"half-stable with its bias, {_name(role)} follows")
    if role.follows is None or role.next == "norm":
        what = {"norm": "a norm follows", "end": "the last layer"}.get(role.next, role.use)
        return normal(fan, f"1 / √fan_in, {what}" if not is_last(role) else "1 / √fan_in, last")
    gain = math.sqrt(needed(role.follows))
    return normal(gain * fan, f"{gain:.4g} / √fan_in, {_name(role)} follows")


def _name(role: Role) -> str:
    return "nothing" if role.follows is None else role.follows.name


def _pair(role: Role) -> HalfStable | None:
    """The weights and biases that hold GELU and its like at any depth, of a layer between such.

    In a residual branch a norm or the sum sets the scale, and the gain alone is enough.
    """
    act = role.follows
    if act is None or act.name not in _HALF_STABLE or not role.has_bias or role.depth is not None:
        return None
    if act != Act.named(act.name) or role.net.attention or role.next != "activation":
        return None
    try:
        return half_stable(act.name)
    except NoSuchPoint:
        return None


def _recurrent(role: Role) -> Law:
    if role.use == "state" and role.part == "weight":
        return packed(*[orthogonal(1.0, "orthogonal, gate by gate")] * role.gates)
    if role.part == "weight":
        return normal(1 / math.sqrt(role.fan_in), "1 / √fan_in")
    forget = role.gates == 4 and role.use == "input"
    if not forget:
        return constant(0.0, "a bias")
    zero = constant(0.0, "a bias")
    return packed(zero, constant(1.0, "the forget gate's 1"), zero, zero)


AUTO = Scheme(
    "auto",
    "any net",
    "He et al. 2015; Poole et al. 2016; Roberts, Yaida & Hanin 2022, ch. 5; Radford et al. 2019; "
    "Jozefowicz et al. 2015; Saxe et al. 2014; Yang et al. 2022; Sitzmann et al. 2020",
    _auto,
    any_net,
)
