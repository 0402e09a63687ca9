"""What kind of parameter a module's parameter is, and its fans: from modules, shapes and names."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from initfast.init.fans import fans_of

_CONVOLUTIONS = nn.modules.conv._ConvNd
_TRANSPOSED = nn.modules.conv._ConvTransposeNd

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)

OUTPUTS = re.compile(
    r"(^|[._])(c_proj|o_proj|out_proj|down_proj|wo|w2|fc2|lin2|linear2|fc_out|out_lin|to_out(\.0)?"
    r"|dense_4h_to_h|o|(attention|attn)\.(dense|proj)|output\.dense|mlp\.proj|proj_out"
    r"|net\.2|mlp\.3|mlp\.2|ffn\.2|feed_forward\.2)$"
)
"""Modules whose output is added to the residual stream, by the names that libraries give them."""

ATTENTION_OUTPUTS = re.compile(
    r"(^|[._])(wo|o_proj|out_proj|to_out(\.0)?|out_lin|o|(attention|attn|attention\.output)"
    r"\.(dense|proj|c_proj)|proj_out)$"
)

GATES = (("w1", "w3"), ("gate_proj", "up_proj"), ("wi_0", "wi_1"), ("gate", "up"), ("w1", "v1"))
"""The two matrices whose outputs are multiplied in a gated feed-forward part, by their names."""

HEADS = re.compile(r"(^|\.)(lm_head|head|heads|classifier|embed_out|score|output|fc|cls)(\.\w+)*$")
"""Modules that make the output of the net."""

POSITIONS = re.compile(r"(^|[._])(wpe|pos|position|positions|positional)\w*", re.IGNORECASE)

DENSE = frozenset(
    (
        *("linear", "residual output", "head", "convolution", "depthwise convolution"),
        *("transposed convolution", "embedding", "position embedding", "recurrent"),
    )
)
"""Kinds that are drawn from a law: one unit of each would else be as the other."""


class Kind(NamedTuple):
    """What a parameter is for.

    Attributes:
        name: one of :data:`DENSE`, or "norm", "bias", "vector", "token" or "other".
        fan_in, fan_out: of a weight; 0 where it has none.
        units: the dimension along which its units lie; -1 where it has none.
    """

    name: str
    fan_in: int = 0
    fan_out: int = 0
    units: int = -1


def kind_of(module: nn.Module, path: str, key: str, shape: tuple[int, ...]) -> Kind:
    """The kind of a module's parameter.

    Args:
        module: that owns it.
        path: of the module in the net.
        key: the parameter's name in the module.
        shape: of the whole parameter, however it is sharded.

    Returns:
        Its kind; fans of grouped and transposed convolutions as they are, not as torch.nn.init
        computes them.

    Example:
        >>> kind_of(nn.Conv2d(8, 8, 3, groups=8), "conv", "weight", (8, 1, 3, 3))
        Kind(name='depthwise convolution', fan_in=9, fan_out=9, units=-1)
    """
    long = sum(size > 1 for size in shape)
    if "Norm" in type(module).__name__ and long <= 1:
        return Kind("bias" if "bias" in key else "norm")
    if "bias" in key and long <= 1:
        return Kind("bias")
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and len(shape) == 2:
        place = POSITIONS.search(path) is not None
        return Kind("position embedding" if place else "embedding", 1, shape[1], 0)
    if isinstance(module, _CONVOLUTIONS) and key.startswith("weight") and len(shape) > 2:
        return _convolution(module, shape)
    if long <= 1:
        return Kind("vector" if len(shape) <= 1 else "token")
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and len(shape) == 2:
        return Kind("recurrent", shape[1], shape[0], 0)
    if len(shape) == 2 and _is_matrix(module, key):
        fans = (shape[0], shape[1]) if _is_transposed(module) else (shape[1], shape[0])
        return Kind(_matrix(path), *fans, units=int(_is_transposed(module)))
    return Kind("token" if POSITIONS.search(key) or "token" in key else "other")


def _convolution(module: nn.Module, shape: tuple[int, ...]) -> Kind:
    transposed = isinstance(module, _TRANSPOSED)
    groups = getattr(module, "groups", 1)
    fans = fans_of(shape, groups, transposed)
    if transposed:
        return Kind("transposed convolution", *fans, units=1 if groups == 1 else -1)
    if groups > 1 and shape[1] == 1:
        return Kind("depthwise convolution", *fans)
    return Kind("convolution", *fans, units=0 if groups == 1 else -1)


def _is_matrix(module: nn.Module, key: str) -> bool:
    """Whether a two-dimensional parameter is multiplied with features."""
    known = isinstance(module, (nn.Linear, nn.MultiheadAttention))
    return known or key.endswith(("weight", "kernel")) or key.startswith(("w_", "W_"))


def _is_transposed(module: nn.Module) -> bool:
    """Whether its weight stands as [in, out], as transformers' Conv1D has it."""
    return type(module).__name__ == "Conv1D"


def _matrix(path: str) -> str:
    digits = re.search(r"(^|\.)\d+\.", path)
    if digits and OUTPUTS.search(path):
        return "residual output"
    if HEADS.search(path) and not digits:
        return "head"
    return "linear"


def pattern(name: str) -> str:
    """A name with its numbers left out, the same for a net's like parameters.

    Example:
        >>> pattern("module.layers.11.w1.weight")
        'layers.#.w#.weight'
    """
    return re.sub(r"\d+", "#", plain_name(name))


def block_pattern(name: str) -> str:
    """A name with the numbers of blocks left out; those that belong to a word, as in w1, stay.

    Example:
        >>> block_pattern("layers.11.w1.weight")
        'layers.#.w1.weight'
    """
    return re.sub(r"(?<![A-Za-z\d])\d+", "#", plain_name(name))


def plain_name(name: str) -> str:
    """A qualified name without what compiling and wrapping add.

    Example:
        >>> plain_name("_orig_mod.module.layers.0.weight")
        'layers.0.weight'
    """
    return _WRAPPERS.sub("", name)


def stride_of(module: nn.Module) -> int:
    """How many outputs a transposed convolution makes of one place of its input; else 1."""
    return math.prod(module.stride) if isinstance(module, _TRANSPOSED) else 1


def torch_fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """The fans that torch.nn.init's functions take, which know of no groups and transposes."""
    return fans_of(shape)


def is_fused(module: nn.Module, path: str, key: str, shape: tuple[int, ...]) -> int:
    """How many matrices, one above the other, a weight is: 3 for q, k and v; 1 where it is one."""
    if isinstance(module, nn.MultiheadAttention) and key == "in_proj_weight":
        return 3
    names = re.search(r"(^|[._])(c_attn|w?qkv|in_proj|query_key_value|w_?pack)$", path.lower())
    if names and len(shape) == 2:
        out, width = shape[::-1] if _is_transposed(module) else shape
        return 3 if out == 3 * width else 1
    return 1


def has_values(p: Tensor) -> bool:
    """Whether a parameter has been made: a lazy one has no shape before the net runs."""
    return not isinstance(p, UninitializedTensorMixin)


def is_gate(name: str) -> bool:
    """Whether a parameter is the second factor of a gated feed-forward part."""
    return plain_name(name).removesuffix(".weight").rpartition(".")[2] in {b for _, b in GATES}
