"""What takes each weight's output: an activation, a norm, a residual sum, a layer, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from initfast.diagnosis.advice import Act, activation_of
from initfast.nets.activation_calls import activation_call
from initfast.profiling.profile import profile
from initfast.repair import sines
from initfast.repair.parameter_kinds import plain_name
from initfast.repair.roles import Role
from initfast.repair.slots import Slot, with_net
from initfast.stats.layer import Layer

_SHORTCUT = re.compile(r"downsample|shortcut|skip|residual|identity", re.IGNORECASE)
_BY_TYPE = {
    **dict.fromkeys(("GELUActivation", "GELU"), "gelu"),
    **dict.fromkeys(
        ("NewGELUActivation", "GELUTanh", "FastGELUActivation", "PytorchGELUTanh"), "gelu_tanh"
    ),
    **dict.fromkeys(("SiLUActivation", "Swish"), "silu"),
    "MishActivation": "mish",
}
"""Activations that libraries wrap in modules of their own, by the modules' types."""


class Following(NamedTuple):
    """What takes a layer's output, as a Role has it, and whether the layer is the first."""

    next: str = ""
    follows: Act | None = None
    first: bool = False
    sine: float = 0.0


def with_following(
    found: Mapping[str, Slot], following: Mapping[str, Following]
) -> dict[str, Slot]:
    """The slots, their roles told what follows the layer that each belongs to."""
    told = {}
    for name, slot in found.items():
        path = name.rpartition(".")[0]
        after = following.get(name) or following.get(f"{path}.weight" if path else "weight")
        role = slot.role
        if after is not None:
            role = replace(role, **after._asdict(), ends_branch=_ends_branch(role, after))
        told[name] = slot._replace(role=role)
    return with_net(told)


def _ends_branch(role: Role, after: Following) -> bool:
    added = after.next == "sum" and role.part == "weight" and role.kind != "embedding"
    return role.ends_branch or (added and not _SHORTCUT.search(role.name))


def by_module_order(net: nn.Module) -> dict[str, Following]:
    """By the modules that are registered after each layer; functions are not seen.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Tanh(), nn.Linear(3, 2))
        >>> {name: f.next for name, f in by_module_order(net).items()}
        {'0.weight': 'activation', '3.weight': 'end'}
    """
    modules = dict(net.named_modules(remove_duplicate=False))  # one activation may serve many
    leaves = [(n, m) for n, m in modules.items() if _is_leaf(n, m)]
    found: dict[str, Following] = {}
    for i, (path, module) in enumerate(leaves):
        if module._parameters.get("weight") is None and "parametrizations" not in module._modules:
            continue
        name = plain_name(f"{path}.weight" if path else "weight")
        after = _next_leaf(path, leaves[i + 1 :])
        sine = sines.of_layer(modules[path.rpartition(".")[0]])
        found[name] = (Following("activation", sine=sine) if sine else after)._replace(
            first=not found
        )
    return found


def _is_leaf(path: str, module: nn.Module) -> bool:
    """Whether nothing is in a module but what may compute its weight."""
    return "parametrizations" not in path and module._modules.keys() <= {"parametrizations"}


def _next_leaf(path: str, later: Sequence[tuple[str, nn.Module]]) -> Following:
    for other, module in later:
        kind = type(module).__name__
        if kind.startswith(("Dropout", "Identity", "Flatten")) or "Pool" in kind:
            continue
        call = activation_call(module)
        if call is not None:
            return Following("activation", Act(call.act, call.alpha, call.beta))
        if kind in _BY_TYPE:
            return Following("activation", Act.named(_BY_TYPE[kind]))
        if sine := sines.of_module(module):
            return Following("activation", sine=sine)
        # In a ResNet one ReLU stands for several, and the next norm is in its place.
        if "Norm" in kind and path.rpartition(".")[0] == other.rpartition(".")[0]:
            return Following("norm")
        return Following("layer")
    return Following("end")


def by_running(net: nn.Module, x: Any) -> dict[str, Following]:
    """By what really took each output as the net ran on x, sines as well.

    Args:
        net: a module.
        x: as :func:`initfast.profile` takes it.
    """
    with sines.SineCalls() as calls:
        layers = profile(net, x).layers
    return by_profile(layers, calls.after)


def by_profile(
    layers: Sequence[Layer], sine_after: Callable[[Layer], float] = lambda layer: 0.0
) -> dict[str, Following]:
    """By what really took each output as the net ran.

    Args:
        layers: of a report of the net, by the names of whose parameters the result is keyed.
        sine_after: of a layer, the ω of the sine that takes its output, or 0.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2))
        >>> after = by_profile(initfast.profile(net, torch.randn(8, 4)).layers)
        >>> {name: f.next for name, f in after.items()}
        {'0.weight': 'norm', '1.weight': 'activation', '3.weight': 'end'}
    """
    readers: dict[tuple[float, ...], Layer] = {}
    for layer in reversed(layers):
        for moments in layer.inputs:
            readers[moments.fingerprint] = layer
    found: dict[str, Following] = {}
    for layer in layers:
        name = plain_name(layer.parameter) or plain_name(f"{layer.name}.weight")
        if name not in found:
            sine = sine_after(layer) if layer.parameter else 0.0
            after = Following("activation", sine=sine) if sine else _reader_of(layer, readers)
            found[name] = after._replace(first=not found)
    return found


def _reader_of(layer: Layer, readers: Mapping[tuple[float, ...], Layer]) -> Following:
    act = activation_of(layer)
    if act is not None:
        return Following("activation", act)
    reader = readers.get(layer.post.fingerprint) if layer.post.finite > 1 else None
    if reader is None:
        return Following("end" if layer.is_returned else "")
    if "Norm" in reader.op:
        return Following("norm")
    if reader.op.startswith("add"):
        return Following("sum")
    if reader.weight is None and activation_of(reader) is not None:
        return Following("activation", activation_of(reader))
    if reader.type in _BY_TYPE:
        return Following("activation", Act.named(_BY_TYPE[reader.type]))
    return Following("layer")
