"""The blocks that a net repeats: which module is in which, and how many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from initfast.repair.uses import is_attention

_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
_HEAD_DIMS = ("head_dim", "key_value_proj_dim", "d_kv", "attention_head_size", "dim_head")
_HEADS = ("num_heads", "n_heads", "num_attention_heads", "nhead", "n_head", "heads")
_RESIDUAL = re.compile(r"Bottleneck|BasicBlock|Res", re.IGNORECASE)


class Block(NamedTuple):
    """One of the blocks of a stack.

    path: of the module. depth: its place, from 0, among all blocks of its stacks. blocks: how many
    these are. attention: whether it has attention. residual: whether it has attention or a norm, as
    blocks do that are added to a stream. head_dim: the size of a head, or None. last_norm: the path
    of the norm that ends a convolutional residual branch; "".
    """

    path: str
    depth: int
    blocks: int
    attention: bool
    residual: bool
    head_dim: int | None
    last_norm: str


def blocks_of(net: nn.Module) -> dict[str, Block]:
    """The innermost block of each module within one, by the module's path.

    A block is one of the children, all of one class and with children of their own, of a list or a
    sequence. Stacks that follow each other as stages of one net count as one; experts are none.

    Example:
        >>> blocks = blocks_of(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 3))
        >>> blocks["layers.2.linear1"].depth, blocks["layers.2.linear1"].blocks
        (2, 3)
    """
    stacks: dict[str, list[tuple[str, nn.Module]]] = {}
    for path, module in net.named_modules():
        if isinstance(module, _CONTAINERS) and _is_stack(path, module):
            inner = [(f"{path}.{name}" if path else name, m) for name, m in module.named_children()]
            stacks.setdefault(_family(path), []).extend(inner)
    found: dict[str, Block] = {}
    for members in stacks.values():
        for depth, (path, module) in enumerate(members):
            names = [name for name, _ in module.named_modules()]
            attention = any(map(is_attention, names)) or any(
                isinstance(m, nn.MultiheadAttention) for m in module.modules()
            )
            normed = any("Norm" in type(m).__name__ for m in module.modules())
            last, size = _last_norm(path, module), _head_dim(module)
            block = Block(path, depth, len(members), attention, attention or normed, size, last)
            for name in names:
                found[f"{path}.{name}" if name else path] = block
    return found


def _is_stack(path: str, module: nn.Module) -> bool:
    children = list(module.children())
    if not children or path.rpartition(".")[2] == "experts":
        return False
    one_class = len({type(child) for child in children}) == 1
    inner = all(any(True for _ in child.children()) for child in children)
    holds = any(isinstance(child, _CONTAINERS) for child in children)
    return one_class and inner and not holds and not any(map(_has_stack, children))


def _has_stack(module: nn.Module) -> bool:
    """Whether a module is a stage: it has a list of blocks itself."""
    return any(
        isinstance(m, (nn.ModuleList, nn.Sequential)) and _is_stack(name, m)
        for name, m in module.named_modules()
        if name
    )


def _family(path: str) -> str:
    """What the paths of the stages of one stack have in common: their names but for numbers."""
    return re.sub(r"\d+", "#", path)


def _head_dim(module: nn.Module) -> int | None:
    for m in module.modules():
        for name in _HEAD_DIMS:
            if isinstance(size := getattr(m, name, None), int) and size > 0:
                return size
        for heads, width in _heads(m):
            if width % heads == 0:
                return width // heads
    return None


def _heads(module: nn.Module) -> Iterator[tuple[int, int]]:
    width = getattr(module, "embed_dim", None)
    for name in _HEADS:
        heads = getattr(module, name, None)
        if isinstance(heads, int) and heads > 0 and isinstance(width, int):
            yield heads, width


def _last_norm(path: str, block: nn.Module) -> str:
    if not (_RESIDUAL.search(type(block).__name__) or hasattr(block, "downsample")):
        return ""
    norms = [name for name, m in block.named_children() if "Norm" in type(m).__name__]
    return f"{path}.{norms[-1]}" if norms else ""
