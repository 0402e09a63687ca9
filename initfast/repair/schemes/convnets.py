"""Schemes for convolutional nets, as their libraries and papers draw them."""

from __future__ import annotations

import math

from initfast.repair.roles import NetFacts, Role
from initfast.repair.schemes.law import Law, constant, normal, truncated_to, uniform
from initfast.repair.schemes.libraries import torchs
from initfast.repair.schemes.scheme import Rule, Scheme, convnet, simple


def _resnet(role: Role) -> Law | None:
    """The last norm of each branch begins at 0 (Goyal et al. 2017), as timm's zero_init_last."""
    if role.kind == "norm" and role.part == "weight" and role.ends_branch:
        return constant(0.0, "the last norm of a residual branch")
    if role.kind == "norm" or (role.kind == "conv" and role.part == "bias"):
        return simple(role)
    if role.kind == "conv":
        whole = role.fan_out * role.groups  # kaiming_normal_ takes no notice of groups
        fan_out = role.fan_in if role.transposed else whole
        return normal(math.sqrt(2 / fan_out), "√(2 / fan_out)")
    return torchs(role)


def _efficientnet(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    if role.kind == "conv":
        return normal(math.sqrt(2 / role.fan_out), "√(2 / (k k out / groups))")
    if role.kind == "linear":
        return uniform(1 / math.sqrt(3 * role.fan_out), "U(±1 / √fan_out)")
    return None


def _convnext(role: Role) -> Law | None:
    known = simple(role)
    if known is not None:
        return known
    return normal(0.02, "0.02") if role.kind in ("conv", "linear") else None


def _mixer(role: Role) -> Law | None:
    if role.use == "head":
        return constant(0.0, "a head")
    known = simple(role)
    if known is not None:
        return known
    if role.kind in ("conv", "linear"):
        return truncated_to(1 / math.sqrt(role.fan_in), "LeCun normal")
    return None


def _nfnet(role: Role) -> Law | None:
    """Weights are standardised as the net runs, so that their scale is the net's own matter."""
    known = simple(role)
    if known is not None:
        return known
    if role.kind == "linear":
        return normal(0.01, "0.01")
    return normal(1 / math.sqrt(role.fan_in), "1 / √fan_in") if role.kind == "conv" else None


def _no_norms(net: NetFacts) -> str | None:
    return convnet(net) or ("this net has norms" if net.norms else None)


def _normed(net: NetFacts) -> str | None:
    return convnet(net) or (None if net.norms else "this net has no norms")


def _scheme(name: str, nets: str, source: str, rule: Rule, unfit: object = convnet) -> Scheme:
    return Scheme(name, nets, source, rule, unfit)  # type: ignore[arg-type]


SCHEMES = (
    _scheme(
        "resnet",
        "convolutional nets with norms",
        "torchvision and timm, resnet.py; He et al. 2015; Goyal et al. 2017",
        _resnet,
        _normed,
    ),
    _scheme("efficientnet", "convolutional nets", "timm, _efficientnet_builder.py", _efficientnet),
    _scheme("convnext", "convolutional nets", "timm, convnext.py", _convnext),
    _scheme("mixer", "nets that embed patches by a convolution", "timm, mlp_mixer.py", _mixer),
    _scheme(
        "nfnet",
        "convolutional nets without norms, whose weights are standardised as they run",
        "timm, nfnet.py; Brock et al. 2021",
        _nfnet,
        _no_norms,
    ),
)
