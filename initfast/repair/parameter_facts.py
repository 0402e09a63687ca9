"""What one read of each parameter of a net tells: its moments, family, law and hash."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from initfast.init.placement import is_distributed, shard_of
from initfast.ops.checks import bytes_needed
from initfast.repair.bit_hash import bit_hash
from initfast.repair.parameter_kinds import Kind, has_values, is_fused, kind_of, stride_of
from initfast.stats.as_dict import as_plain
from initfast.stats.families import Family, eps_of, family
from initfast.stats.moments import Moments
from initfast.stats.text import dtype_name


@dataclass(frozen=True)
class ParameterFacts:
    """What is known of one parameter.

    Attributes:
        name: its path in the net.
        tied: other paths of the same memory.
        module: the type of the module that owns it.
        kind: "linear", "residual output", "embedding", "norm", "bias" and so on.
        shape: of the whole parameter, where a DTensor is sharded.
        dtype: of its elements.
        trainable: whether it takes a gradient.
        fan_in, fan_out: of a weight; 0 where it has none.
        stride: of a transposed convolution, of all dimensions together; else 1.
        fused: how many matrices are one above the other in it, as q, k and v are; else 1.
        moments: of its elements, those of a complex parameter taken as pairs; None where it has no
            values to read.
        family: the family of laws it was drawn from; None where it has no values.
        law: the initialiser that fits family, std and fans, in words; "" where none does.
        hash: 64 bits of its bits; 0 where it has no values.
        note: what is odd about it, and why it was not measured; else "".
    """

    name: str
    tied: tuple[str, ...]
    module: str
    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    trainable: bool
    fan_in: int = 0
    fan_out: int = 0
    stride: int = 1
    fused: int = 1
    moments: Moments | None = None
    family: Family | None = None
    law: str = ""
    hash: int = 0
    note: str = ""
    place: tuple[int, ...] | None = field(default=None, repr=False)

    @property
    def std(self) -> float:
        """The standard deviation of its elements; NaN where it has none."""
        return math.nan if self.moments is None else self.moments.std

    @property
    def smallest(self) -> float:
        """The smallest magnitude that is not zero; infinity where there is none."""
        return math.inf if self.moments is None else self.moments.smallest or math.inf

    def to_dict(self) -> dict[str, Any]:
        """The attributes as numbers, strings and lists."""
        plain = as_plain(self)
        plain.pop("place")
        return plain | {
            "std": self.std,
            "smallest": self.smallest,
            "family_in_words": str(self.family or ""),
        }


@dataclass(frozen=True)
class Owned:
    """A parameter, the module that has it, and the others that do, with its names there."""

    parameter: Tensor
    module: nn.Module
    path: str
    key: str
    others: tuple[nn.Module, ...]
    tied: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its path in the net."""
        return f"{self.path}.{self.key}" if self.path else self.key


def owned(net: nn.Module) -> Iterator[Owned]:
    """Every parameter once, under its first name, in the order of ``net.named_parameters()``."""
    found: dict[object, list[tuple[Tensor, nn.Module, str, str]]] = {}
    for path, module in net.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(_identity(parameter), []).append((parameter, module, path, key))
    for first, *others in found.values():
        tied = tuple(f"{path}.{key}".lstrip(".") for *_, path, key in others)
        yield Owned(*first, tuple(module for _, module, *_ in others), tied)


def _identity(p: Tensor) -> object:
    """The same for parameters of one memory, as after ``a.weight.data = b.weight.data``."""
    try:
        if p.numel() and p.layout is torch.strided and p.data_ptr():
            return p.data_ptr(), p.dtype, tuple(p.shape), p.stride()
    except (RuntimeError, ValueError, NotImplementedError, TypeError):
        pass  # it has no memory of its own
    return id(p)


def facts_of(one: Owned) -> ParameterFacts:
    """Read one parameter. Whatever it is, it is named, and no exception leaves."""
    p = one.parameter
    if not has_values(p):
        return _unread(one, (), "lazy: it is made when the net first runs")
    shape = _shape(p)
    with torch.no_grad():
        try:
            values, note = readable(p.detach())
            if values is None:
                return _unread(one, shape, note)
            moments = Moments.of(values)
            found = family(moments, eps_of(values.dtype))
            if found.is_random and is_patterned(values):
                found = replace(found, name="other")
            hashed = bit_hash(values)
            place = shard_of(p).start if is_distributed(p) else None
        except (RuntimeError, ValueError, NotImplementedError, TypeError, AttributeError) as error:
            why = f"{type(p).__name__} cannot be read: {str(error).splitlines()[0]}"
            return _unread(one, shape, why)
    return _unread(one, shape, note, moments, found, hashed, place)


def _shape(p: Tensor) -> tuple[int, ...]:
    """Of the whole; () of a nested tensor, whose parts have each their own."""
    try:
        return () if p.is_nested else tuple(map(int, p.shape))
    except (RuntimeError, TypeError, ValueError):
        return ()


def _unread(
    one: Owned,
    shape: tuple[int, ...],
    note: str,
    moments: Moments | None = None,
    found: Family | None = None,
    hashed: int = 0,
    place: tuple[int, ...] | None = None,
) -> ParameterFacts:
    try:
        kind = kind_of(one.module, one.path, one.key, shape)
    except (RuntimeError, ValueError, TypeError):  # a module of another make
        kind = Kind("other")
    notes = [note] if note else []
    if ".parametrizations." in f".{one.path}.":
        notes.append("parametrised: the net uses what is computed from it")
    if not one.parameter.requires_grad:
        notes.append("frozen")
    return ParameterFacts(
        name=one.name,
        tied=one.tied,
        module=type(one.module).__name__,
        kind=kind.name,
        shape=shape,
        dtype=one.parameter.dtype,
        trainable=one.parameter.requires_grad,
        fan_in=kind.fan_in,
        fan_out=kind.fan_out,
        stride=stride_of(one.module),
        fused=is_fused(one.module, one.path, one.key, shape),
        moments=moments,
        family=found,
        hash=hashed,
        note="; ".join(notes),
        place=place,
    )


def readable(p: Tensor) -> tuple[Tensor | None, str]:
    """A dense tensor of a parameter's values on this process, and what is odd about them.

    Args:
        p: detached.

    Returns:
        (None, why) where there are no values.
    """
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    if p.is_meta or (fake is not None and isinstance(p, fake.FakeTensor)):
        return None, "on the meta device: it has no values yet"
    note = ""
    if is_distributed(p):
        p, note = p.to_local(), "this process's part"  # type: ignore[attr-defined]
    if p.is_nested:
        p, note = p.values(), "nested: its values"
    if p.is_quantized:
        return p.dequantize(), f"quantised ({dtype_name(p.dtype)}): as what it stands for"
    if p.layout is not torch.strided:
        values = p._values() if p.layout is torch.sparse_coo else p.values()
        return values, "sparse: the values that are stored"
    if type(p) not in (Tensor, nn.Parameter) and hasattr(p, "dequantize"):
        return p.dequantize(), f"{type(p).__name__}: as what it stands for"
    if p.numel() and p.untyped_storage().nbytes() < bytes_needed(p):
        return None, "its memory is given away, as FSDP does between two uses"
    if p.is_complex():
        return torch.view_as_real(p.resolve_conj()), "complex: its real and imaginary parts"
    if p.numel() == 0:
        note = "empty on this process" if note else "empty"
    elif not p.is_floating_point():
        note = f"{dtype_name(p.dtype)}: whole numbers are not drawn from a law"
    return p, note


def is_patterned(values: Tensor) -> bool:
    """Whether numbers are counted, not drawn: in order, or a few again and again."""
    first = values.reshape(-1)[:256].double()
    steps = first.diff()
    if len(first) > 8 and bool((steps >= 0).all() | (steps <= 0).all()):
        return True
    return values.element_size() >= 4 and 2 * len(first.unique()) < len(first)
