"""What of a module decides the scale of its output, beside its weight: settings and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor, nn

from initfast.nets.activation_calls import MODULES

_POOLS = ("MaxPool", "AvgPool")
_OF_TYPE: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], tuple[str, ...]], ...] = (
    (
        nn.modules.conv._ConvNd,
        ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"),
    ),
    (nn.modules.batchnorm._NormBase, ("eps", "training", "track_running_stats")),
    (nn.GroupNorm, ("eps", "num_groups")),
    ((nn.LayerNorm, nn.RMSNorm), ("eps", "normalized_shape")),
    (nn.modules.dropout._DropoutNd, ("p", "training")),
    (
        tuple(getattr(nn, f"{name}{d}d") for name in _POOLS for d in (1, 2, 3)),
        ("kernel_size", "stride", "padding"),
    ),
    (nn.MultiheadAttention, ("num_heads", "batch_first", "dropout", "training")),
    ((nn.GLU, nn.Softmax), ("dim",)),
)


@cache
def _attributes(kind: type[nn.Module]) -> tuple[str, ...]:
    return next((names for base, names in _OF_TYPE if issubclass(kind, base)), ())


def settings(module: nn.Module) -> dict[str, Any]:
    """The module's settings by their names, as numbers, texts and lists.

    Among them "parametrizations", the types of what computes its weight, as "SpectralNorm".

    Example:
        >>> settings(nn.Dropout(0.1))
        {'p': 0.1, 'training': True}
    """
    names = _attributes(type(module))  # type: ignore[arg-type]
    found = {name: _plain(getattr(module, name, None)) for name in names} if names else {}
    own = module._modules  # a scripted module's is no dict
    made = own["parametrizations"] if "parametrizations" in own else None
    if isinstance(made, nn.ModuleDict) and "weight" in made:
        kinds = [type(one).__name__.lstrip("_") for one in made["weight"].children()]
        found["parametrizations"] = kinds
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_WITHOUT_EITHER = frozenset((*MODULES, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity))


class SettingsAndVectors(NamedTuple):
    """Both of many modules.

    Attributes:
        settings: of each module that has some, by its name.
        owners: of each vector, the name of its module and its own.
        vectors: in the order of the modules.
    """

    settings: dict[str, dict[str, Any]]
    owners: list[tuple[str, str]]
    vectors: list[Tensor]


def settings_and_vectors(names: Sequence[str], modules: Sequence[nn.Module]) -> SettingsAndVectors:
    """What :func:`settings` and :func:`vectors` say of modules of these names."""
    found: dict[str, dict[str, Any]] = {}
    owners, tensors = list[tuple[str, str]](), list[Tensor]()
    for name, module in zip(names, modules, strict=True):
        kind = type(module)
        if kind is nn.Linear:  # the usual one, whose bias is its only vector, without a dict
            if (bias := module._parameters.get("bias")) is not None:
                owners.append((name, "bias"))
                tensors.append(bias)
        elif kind not in _WITHOUT_EITHER:
            own = vectors(module)
            owners.extend((name, key) for key in own)
            tensors.extend(own.values())
            if rest := settings(module):
                found[name] = rest
    return SettingsAndVectors(found, owners, tensors)


def vectors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of one dimension that add to the output or multiply it, by their names.

    A batch norm in evaluation mode has its running statistics among them, and attention the bias
    of its last projection. Of an LSTM the biases of the forget gates stand apart too, of a GRU
    those of the update gates: they decide how much of the state a step keeps.
    """
    parameters = module._parameters
    own = parameters.items()
    found: dict[str, Tensor] = {name: p for name, p in own if p is not None and p.dim() == 1}
    if isinstance(module, nn.modules.batchnorm._NormBase):
        if not module.training:
            buffers = {name: module._buffers.get(name) for name in ("running_mean", "running_var")}
            found |= {name: t for name, t in buffers.items() if t is not None}
    elif isinstance(module, nn.MultiheadAttention):
        bias = getattr(module.out_proj, "bias", None)
        found |= {} if bias is None else {"out_proj.bias": bias}
    elif isinstance(module, (nn.LSTM, nn.GRU)):
        found |= _keeping(module, found)
    return found


def _keeping(module: nn.LSTM | nn.GRU, biases: dict[str, Tensor]) -> dict[str, Tensor]:
    """The second part of each bias, which torch lays out by gates."""
    gates = 4 if isinstance(module, nn.LSTM) else 3
    return {
        f"{name}.keep": bias.chunk(gates)[1]
        for name, bias in biases.items()
        if name.startswith("bias_")
    }
