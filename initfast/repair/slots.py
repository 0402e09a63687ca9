"""Slots: where a net holds its parameters, and the role of each."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from initfast.init.fans import fan_in_and_fan_out
from initfast.repair import uses
from initfast.repair.blocks import Block, blocks_of
from initfast.repair.parameter_kinds import plain_name, stride_of
from initfast.repair.roles import NetFacts, Role

_CONVOLUTIONS = nn.modules.conv._ConvNd
_TRANSPOSED = nn.modules.conv._ConvTransposeNd
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_BIAS = re.compile(r"(.*_)?bias(_[ih]h.*|_[kv])?|beta")
_OFFSET = re.compile(r"1(\.0?)?\s*\+\s*self\.weight")
_WIDTHS = ("hidden_size", "hidden_dim", "embed_dim", "d_model", "dim")
GATES = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}


class Slot(NamedTuple):
    """What holds a parameter: its first owner and the name there; and what it is for."""

    owner: nn.Module
    key: str
    tensor: Tensor
    role: Role


class Owner(NamedTuple):
    """The module that owns a parameter: its path, itself, what it is in, and its block, if any."""

    path: str
    module: nn.Module
    parent: nn.Module
    block: Block | None


def slots(net: nn.Module) -> dict[str, Slot]:
    """Every parameter of a net, once, by its plain name; in the order of registration.

    Args:
        net: its parameters may be on any device.

    Example:
        >>> roles = {n: p.role for n, p in slots(nn.Sequential(nn.Linear(4, 3))).items()}
        >>> roles["0.weight"].fan_in, roles["0.bias"].part
        (4, 'bias')
    """
    blocks, modules = blocks_of(net), dict(net.named_modules())
    found: dict[str, Slot] = {}
    by_id: dict[int, str] = {}
    for path, module in modules.items():
        parent = modules[path.rpartition(".")[0]]
        for key, tensor in _parameters(module):
            if id(tensor) in by_id:
                name = by_id[id(tensor)]
                role = replace(found[name].role, tied=found[name].role.tied or is_linear(module))
                found[name] = found[name]._replace(role=role)
                continue
            name = plain_name(f"{path}.{key}" if path else key)
            by_id[id(tensor)] = name
            owner = Owner(path, module, parent, blocks.get(path))
            role = _role(name, owner, key, tensor)
            found[name] = Slot(module, key, tensor, role)
    return with_net(found)


def _parameters(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters, and what its parametrizations compute, under its plain name."""
    if type(module).__name__ in ("ParametrizationList",):
        return
    yield from ((key, p) for key, p in module._parameters.items() if p is not None)
    computed = module._modules.get("parametrizations")
    if isinstance(computed, nn.ModuleDict):
        for key in computed:
            yield key, _computed(module, key, computed[key])


def _computed(module: nn.Module, key: str, by: nn.Module) -> Tensor:
    """What a parametrization computes, in evaluation mode: in training, spectral_norm goes on."""
    training = [m for m in by.modules() if m.training]
    try:
        for m in training:
            m.training = False
        with torch.no_grad():
            value: Tensor = getattr(module, key)
        return value
    finally:
        for m in training:
            m.training = True


def _role(name: str, owner: Owner, key: str, tensor: Tensor) -> Role:
    module, block = owner.module, owner.block
    kind: Any = type(module)
    role = Role(
        name=name,
        kind=_kind(module, key, tensor),
        part="bias" if _BIAS.fullmatch(key) else "weight",
        shape=tuple(tensor.shape),
        depth=None if block is None else block.depth,
        blocks=0 if block is None else block.blocks,
        attention=block is not None and block.attention,
        in_attention=isinstance(module, nn.MultiheadAttention) or uses.is_attention(owner.path),
        torchs_attention=isinstance(module, nn.MultiheadAttention),
        offset=float(_adds_one(kind)),
        has_bias=any("bias" in k and p is not None for k, p in module._parameters.items()),
        head_dim=None if block is None else block.head_dim,
    )
    role = _with_fans(replace(role, use=_use(role, owner, key)), module, key, tensor)
    ends = role.use == "out" and block is not None and block.residual
    ends = ends or (block is not None and owner.path == block.last_norm and role.part == "weight")
    return replace(role, ends_branch=ends)


def _kind(module: nn.Module, key: str, tensor: Tensor) -> str:
    name = type(module).__name__
    if "Norm" in name and tensor.dim() <= 1:
        return "norm"
    if tensor.dim() == 3 and uses.use_in_block(key) != "hidden":
        return "linear"  # experts
    if isinstance(module, _RECURRENT):
        return "recurrent"
    if not isinstance(module, nn.MultiheadAttention) and key not in ("weight", "bias"):
        return "other"  # what a hook computes a weight from, as weight_g, and what is no weight
    if isinstance(module, _CONVOLUTIONS):
        return "conv"
    if isinstance(module, _EMBEDDINGS):
        return "embedding"
    return "linear" if is_linear(module) else "other"


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer, torch's or a library's, or torch's attention."""
    known = (nn.Linear, nn.Bilinear, nn.MultiheadAttention)
    return isinstance(module, known) or "Linear" in type(module).__name__ or _is_conv1d(module)


@cache
def _adds_one(kind: Any) -> bool:
    """Whether a norm multiplies by 1 + weight, as Gemma's do, so that its weight begins at 0."""
    if "Norm" not in kind.__name__ or kind.__module__.startswith("torch."):
        return False
    try:
        return bool(_OFFSET.search(inspect.getsource(kind)))
    except (OSError, TypeError):  # typed in at a prompt
        return False


def _is_conv1d(module: nn.Module) -> bool:
    """Whether it is transformers' Conv1D: a linear layer whose weight is laid out [in, out]."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _use(role: Role, owner: Owner, key: str) -> str:
    if role.kind == "norm":
        return "norm"
    if role.kind == "recurrent":
        return "state" if "_hh" in key else "input"
    if role.kind in ("embedding", "other"):
        table = uses.use_of_table(role.name)
        return table or ("embedding" if role.kind == "embedding" else "hidden")
    if owner.block is None and not isinstance(owner.module, nn.MultiheadAttention):
        return "head" if role.kind == "linear" and uses.is_head(owner.path) else "hidden"
    path = owner.path if key in ("weight", "bias") else f"{owner.path}.{key}"
    siblings = frozenset(owner.parent._modules)
    found = uses.use_in_block(path.replace("_bias", "_weight"), siblings)
    if found == "hidden" and role.attention and isinstance(owner.parent, nn.Sequential):
        linear = [m for m in owner.parent if isinstance(m, nn.Linear)]
        if len(linear) > 1:  # a feed-forward part written as a sequence
            found = "out" if owner.module is linear[-1] else "inner"
    return found


def _with_fans(role: Role, module: nn.Module, key: str, tensor: Tensor) -> Role:
    if role.part == "bias":
        of = key.replace("bias", "weight")  # an older weight_norm's is a plain attribute
        weight = dict(_parameters(module)).get(of, module.__dict__.get(of))
        if not isinstance(weight, Tensor) or weight.dim() < 2:
            return replace(role, gates=GATES.get(_cell(module), 1))
        owner = replace(role, part="weight", shape=tuple(weight.shape))
        owner = _with_fans(owner, module, key.replace("bias", "weight"), weight)
        return replace(owner, part="bias", shape=role.shape)
    if tensor.dim() < 2 or role.kind == "norm":
        return role
    if isinstance(module, _CONVOLUTIONS):
        transposed = isinstance(module, _TRANSPOSED)
        fan_in, fan_out = fan_in_and_fan_out(tensor, module.groups, transposed)
        stride = stride_of(module)
        role = replace(role, transposed=transposed, groups=module.groups, stride=stride)
        return replace(role, fan_in=fan_in, fan_out=fan_out)
    if role.kind == "embedding":
        padding = getattr(module, "padding_idx", None)
        return replace(role, fan_in=1, fan_out=tensor.shape[1], padding=padding)
    if role.kind == "recurrent":
        gates = GATES.get(_cell(module), 1)
        rows, fan_in = tensor.shape
        return replace(role, fan_in=fan_in, fan_out=rows // gates, parts=gates, gates=gates)
    if tensor.dim() == 3 and not isinstance(module, nn.Bilinear):
        return _with_experts_fans(role, module)
    fan_in, fan_out = fan_in_and_fan_out(tensor)
    first = _is_conv1d(module)
    if first:
        fan_in, fan_out = fan_out, fan_in
    parts = 3 if role.use == "qkv" and fan_out % 3 == 0 and fan_out == 3 * fan_in else 1
    return replace(role, fan_in=fan_in, fan_out=fan_out // parts, parts=parts, inputs_first=first)


def _with_experts_fans(role: Role, module: nn.Module) -> Role:
    """Experts' weights are [E, out, in] or [E, in, out]: the stream's width tells which."""
    _, rows, columns = role.shape
    stream = next((w for n in _WIDTHS if isinstance(w := getattr(module, n, None), int)), None)
    inputs_first = stream == (columns if role.use == "out" else rows) and rows != columns
    fan_in, fan_out = (rows, columns) if inputs_first else (columns, rows)
    return replace(role, fan_in=fan_in, fan_out=fan_out, inputs_first=inputs_first)


def _cell(module: nn.Module) -> str:
    return str(getattr(module, "mode", type(module).__name__)).split("_")[0]


def _sine_of_all(roles: Sequence[Role]) -> float:
    """The ω of the last sine of a net all of whose activations are sines; 0 of any other."""
    followed = [r for r in roles if r.part == "weight" and (r.sine or r.follows is not None)]
    return followed[-1].sine if all(r.sine for r in followed) and followed else 0.0


def with_net(found: dict[str, Slot]) -> dict[str, Slot]:
    """The same, and in each role what there is to say of the net as a whole."""
    roles = [slot.role for slot in found.values()]
    tables = [r for r in roles if r.use == "embedding"]
    ends = [r for r in roles if r.ends_branch and r.part == "weight"]
    stream = next((r.fan_out for r in ends if r.kind == "linear"), None)
    within = [r for r in roles if r.depth is not None and len(r.shape) > 1]
    branches = len({re.sub(r"experts\.\d+", "experts", r.name) for r in ends})
    sides = {side: [r.blocks for r in within if side in r.name] for side in ("encoder", "decoder")}
    both = all(sides.values())
    net = NetFacts(
        width=tables[0].fan_out if tables and not stream else stream,
        branches=branches,
        attention=any(r.attention for r in roles),
        convolutions=any(r.kind == "conv" for r in roles),
        norms=any(r.kind == "norm" for r in roles),
        tied=any(r.tied and r.kind == "embedding" for r in roles),
        encoder=sides["encoder"][0] if both else 0,
        decoder=sides["decoder"][0] if both else 0,
        sine=_sine_of_all(roles),
        branch_layers=len([r for r in within if r.part == "weight"]) / max(branches, 1),
    )
    return {name: slot._replace(role=replace(slot.role, net=net)) for name, slot in found.items()}
