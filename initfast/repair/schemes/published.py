"""Schemes that papers give by formula, for depth or for width."""

from __future__ import annotations

import math

from initfast.repair.roles import NetFacts, Role
from initfast.repair.schemes.law import Law, constant, normal, packed, uniform
from initfast.repair.schemes.libraries import torchs
from initfast.repair.schemes.scheme import (
    DoesNotFit,
    Rule,
    Scheme,
    any_net,
    residual,
    simple,
    transformer,
)
from initfast.repair.sines import OMEGA


def _weight(role: Role) -> bool:
    return role.kind in ("linear", "conv") and role.part == "weight" and role.fan_in > 0


def _fixup(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    if not _weight(role):
        return torchs(role) if role.kind == "embedding" else None
    if role.ends_branch:
        return constant(0.0, "the last layer of a branch")
    if role.use == "head" or (role.depth is None and role.next == "end"):
        return constant(0.0, "the last layer of the net")
    he = math.sqrt(2 / role.fan_in)
    layers = round(role.net.branch_layers)
    if role.depth is None or layers < 2:
        return normal(he, "√(2 / fan_in)")
    power = -1 / (2 * layers - 2)
    return normal(
        he * role.net.branches**power, f"√(2 / fan_in) L^({power:.3g}), L {role.net.branches}"
    )


def _xavier(role: Role, gain: float, why: str) -> Law:
    return uniform(gain * math.sqrt(2 / (role.fan_in + role.fan_out)), why)


def _by_attention(role: Role, base: float, values: float, others: float, why: str) -> Law | None:
    """Xavier times a gain: for queries and keys base, for values and other weights theirs."""
    if role.use in ("query", "key"):
        return _xavier(role, base, "Xavier")
    if role.use == "value":
        return _xavier(role, values, why)
    if role.use == "qkv":
        if role.parts != 3:
            raise DoesNotFit(f"{role.name}: its queries, keys and values are not equally many")
        plain, scaled = _xavier(role, base, "Xavier"), _xavier(role, values, why)
        return packed(plain, plain, scaled)
    if role.use in ("gate", "up", "gate_up", "inner", "out"):
        return _xavier(role, others, why)
    return _xavier(role, 1.0, "Xavier") if _weight(role) else None


def _t_fixup(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    n = max(role.blocks, 1)
    if role.kind == "embedding":
        most = max(role.net.encoder, role.net.decoder, _depth(role))
        return normal(role.fan_out**-0.5 * (9 * most) ** -0.25, "1 / √d (9 N)^(-1/4)")
    decoder = "decoder" in role.name
    factor = (9 * n) ** -0.25 if decoder else 0.67 * n**-0.25
    why = "Xavier (9 N)^(-1/4)" if decoder else "Xavier 0.67 N^(-1/4)"
    # fairseq draws the three with a gain of 1 / √2; the values' is undone by T-Fixup's √2
    return _by_attention(role, 2**-0.5, factor, factor, why)


def _depth(role: Role) -> int:
    """How many blocks the net has, of a parameter outside of them: two branches make one."""
    return max(round(role.net.branches / 2), 1)


def _deepnorm_divisor(role: Role) -> float:
    encoder, decoder = role.net.encoder, role.net.decoder
    if not (encoder and decoder):
        return (8 * max(role.blocks, 1)) ** 0.25
    if "decoder" in role.name:
        return (12 * decoder) ** 0.25
    return (encoder**4 * decoder) ** (1 / 16) / 1.15


def _deepnorm(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    if role.kind == "embedding":
        return normal(role.fan_out**-0.5, "1 / √d")
    factor = 1 / _deepnorm_divisor(role)
    return _by_attention(role, 1.0, factor, factor, f"Xavier times {factor:.3g}")


def _sub_ln_factor(role: Role) -> float:
    encoder, decoder = role.net.encoder, role.net.decoder
    if not (encoder and decoder):
        return math.sqrt(math.log(2 * max(role.blocks, 1)))
    if "decoder" in role.name:
        return math.sqrt(math.log(3 * decoder))
    return math.sqrt(math.log(3 * decoder) * math.log(2 * encoder) / 3)


def _sub_ln(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    if role.kind == "embedding":
        return normal(role.fan_out**-0.5, "1 / √d")
    factor = _sub_ln_factor(role)
    return _by_attention(role, 1.0, factor, factor, f"Xavier times {factor:.3g}")


def is_last(role: Role) -> bool:
    """Whether it is the layer that makes the net's output."""
    return role.use == "head" or (role.depth is None and role.next == "end")


def _mup(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    if role.kind == "embedding":
        return normal(1.0, "an input, 1")
    if not _weight(role):
        return None
    if is_last(role):
        return normal(1 / role.fan_in, "an output, 1 / fan_in")
    return normal(1 / math.sqrt(role.fan_in), "1 / √fan_in")


def _spectral(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    if role.kind == "embedding":
        return normal(1.0, "an input, 1")
    if not _weight(role):
        return None
    std = min(1.0, math.sqrt(role.fan_out / role.fan_in)) / math.sqrt(role.fan_in)
    return normal(std, "min(1, √(fan_out / fan_in)) / √fan_in")


def siren(role: Role) -> Law | None:
    """Sines of a layer's output hold a std of √(1/2) from the second layer on, whatever the ω."""
    if role.part == "bias" or role.kind not in ("linear", "conv"):
        return torchs(role)
    if role.first:
        return uniform(1 / (role.fan_in * math.sqrt(3)), "U(±1 / n), the first before sines")
    omega = role.sine or role.net.sine or OMEGA
    return uniform(math.sqrt(2 / role.fan_in) / omega, f"U(±√(6 / n) / {omega:.4g}), by sines")


def _only_linear(net: NetFacts) -> str | None:
    kinds = {"convolutions": net.convolutions, "attention": net.attention, "norms": net.norms}
    return next((f"this net has {kind}" for kind, there in kinds.items() if there), None)


def _no_norms(net: NetFacts) -> str | None:
    return residual(net) or ("this net has norms" if net.norms else None)


def _unnormed_transformer(net: NetFacts) -> str | None:
    return transformer(net) or ("this net has norms" if net.norms else None)


def _normed_transformer(net: NetFacts) -> str | None:
    return transformer(net) or (None if net.norms else "this net has no norms")


def _scheme(name: str, nets: str, source: str, rule: Rule, unfit: object = any_net) -> Scheme:
    return Scheme(name, nets, source, rule, unfit)  # type: ignore[arg-type]


SCHEMES = (
    _scheme("fixup", "residual nets without norms", "Zhang et al. 2019", _fixup, _no_norms),
    _scheme(
        "t_fixup",
        "transformers without norms",
        "Huang et al. 2020; T-Fixup, transformer_layer.py",
        _t_fixup,
        _unnormed_transformer,
    ),
    _scheme(
        "deepnorm",
        "transformers whose norms come after the sum, x times alpha",
        "Wang et al. 2022; torchscale, encoder.py, decoder.py",
        _deepnorm,
        _normed_transformer,
    ),
    _scheme(
        "sub_ln",
        "transformers with norms within their branches",
        "Wang et al. 2022, Magneto; torchscale, encoder.py, decoder.py",
        _sub_ln,
        _normed_transformer,
    ),
    _scheme("mup", "any net", "Yang et al. 2022, Tensor Programs V, table 3", _mup),
    _scheme("spectral", "any net", "Yang, Simon & Bernstein 2023; nanotron", _spectral),
    _scheme(
        "siren",
        "nets of linear layers with sines, sin(ω x)",
        "Sitzmann et al. 2020",
        siren,
        _only_linear,
    ),
)
