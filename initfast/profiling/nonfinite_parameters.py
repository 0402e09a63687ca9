"""The parameters and buffers that were not finite before the net ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from initfast.ops.dispatch import MOMENTS, has_memory, kernels_of
from initfast.stats.layer import Layer


def with_nonfinite_parameters(
    layers: Sequence[Layer], module: Callable[[str], nn.Module | None]
) -> list[Layer]:
    """The layers, non-finite ones with the names of the parameters that were so before.

    A buffer counts if it has a NaN: infinities in one are a mask's.

    Args:
        layers: of a report.
        module: gives the module of a path.
    """
    found = list(layers)
    flags = [
        (i, name, flag)
        for i, layer in enumerate(found)
        if layer.has_nonfinite and (its := module(layer.name)) is not None
        for name, flag in _flags(its)
    ]
    bad: dict[int, list[str]] = {}
    for (i, name, _), is_bad in zip(flags, _on_host([flag for *_, flag in flags]), strict=True):
        bad.setdefault(i, []).extend([name] if is_bad else [])
    for i, names in bad.items():
        found[i] = replace(found[i], nonfinite_parameters=tuple(names))
    return found


def _flags(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """By name, whether a parameter is non-finite, whether a buffer has a NaN: on their devices."""
    for name, weight in module._parameters.items():
        if (
            weight is not None
            and (kernels := kernels_of(weight)) is not None
            and has_memory(weight)
        ):
            yield name, MOMENTS(kernels, weight)[1] > 0
    for name, buffer in module._buffers.items():
        if buffer is not None and kernels_of(buffer) is not None and has_memory(buffer):
            yield name, buffer.isnan().any()


def _on_host(flags: Sequence[Tensor]) -> list[bool]:
    """The flags, copied once from each device."""
    found: dict[int, bool] = {}
    for device in {t.device for t in flags}:
        at = [i for i, t in enumerate(flags) if t.device == device]
        found.update(zip(at, torch.stack([flags[i] for i in at]).tolist(), strict=True))
    return [found[i] for i in range(len(flags))]
