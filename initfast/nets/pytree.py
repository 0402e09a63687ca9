"""The tensors in what a net takes and gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
"""What holds no tensors."""


def tensors(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested tuples, lists, mappings and dataclasses, with its path."""
    if isinstance(value, Tensor):
        yield "", value
    else:
        yield from ((path, leaf) for path, leaf in leaves(value) if isinstance(leaf, Tensor))


def leaves(value: Any, path: str = "", around: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Everything in them that is none of these, and that may be or hold a tensor.

    Args:
        value: any.
        path: of value.
        around: the ids of what holds value, which may hold itself.
    """
    if id(value) in around:
        return
    items: Any = ()
    if isinstance(value, Mapping):
        items = ((f"[{key!r}]", item) for key, item in value.items())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        items = ((f".{field.name}", getattr(value, field.name, None)) for field in fields)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = ((f".{name}", item) for name, item in zip(value._fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        items = ((f"[{i}]", item) for i, item in enumerate(value))
    elif not isinstance(value, PLAIN):
        yield path, value
    for step, item in items:
        yield from leaves(item, path + step, (*around, id(value)))
