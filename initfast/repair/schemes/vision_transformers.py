"""Schemes for vision transformers, as timm draws them; formulas as in those for transformers."""

from __future__ import annotations

import math

from initfast.repair.roles import Role
from initfast.repair.schemes.law import Law, constant, normal, truncated_to, uniform
from initfast.repair.schemes.libraries import torchs
from initfast.repair.schemes.scheme import Rule, simple
from initfast.repair.schemes.transformers import (
    by_depth,
    by_place,
    fixed,
    of_fan_in,
    one,
    scaled,
    scheme,
)


def _timm(fix: bool = False) -> Rule:
    out = scaled(0.02, by_depth if fix else one, why="0.02 / √(2 (l + 1))" if fix else "0.02")

    def table(role: Role) -> Law:
        return normal(1e-6, "a token") if role.use == "token" else normal(0.02, "0.02")

    linear = by_place(table=table, inner=fixed(0.02), out=out, head=fixed(0.02))
    return lambda role: torchs(role) if role.kind == "conv" else linear(role)


def _xavier(role: Role) -> Law:
    return uniform(math.sqrt(2 / (role.fan_in + role.fan_out)), "Xavier")


def _timm_jax(role: Role) -> Law | None:
    if role.use == "head":
        return constant(0.0, "a head")
    if role.part == "bias" and role.use in ("inner", "out") and not role.in_attention:
        return normal(1e-6, "a bias of the feed-forward part")
    known = simple(role)
    if known is not None:
        return known
    if role.use in ("position", "embedding", "token"):
        return normal(1e-6 if role.use == "token" else 0.02, "0.02; 1e-6 of a token")
    if role.kind == "conv":
        return truncated_to(of_fan_in(role), "LeCun")
    if role.kind != "linear":
        return None
    whole = role.fan_out * role.parts
    return uniform(math.sqrt(2 / (role.fan_in + whole)), "Xavier of the packed weight")


def _timm_moco(role: Role) -> Law | None:
    if role.kind == "conv":
        return torchs(role)
    known = simple(role)
    if known is not None:
        return known
    if role.use in ("position", "embedding", "token"):
        return normal(1e-6 if role.use == "token" else 0.02, "0.02; 1e-6 of a token")
    return _xavier(role) if role.kind == "linear" else None


SCHEMES = (
    scheme("timm_vit", "timm, vision_transformer.py", _timm()),
    scheme("timm_vit_fixed", "timm, vision_transformer.py fix_init", _timm(fix=True)),
    scheme("timm_jax", "timm, vision_transformer.py jax (head 0)", _timm_jax),
    scheme("timm_moco", "timm, vision_transformer.py moco", _timm_moco),
)
