"""What this process holds of a tensor that several processes hold together."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from initfast.init.placement import is_distributed

NOTE = (
    "The net is sharded: where several processes hold an output or a weight together, its numbers "
    "and its shape are those of the part that this process holds."
)


def is_sharded(module: nn.Module) -> bool:
    """Whether a module has a weight that several processes hold together."""
    return is_distributed(module._parameters.get("weight"))


def local_part(t: Tensor) -> Tensor:
    """The plain tensor of what this process holds of t, the same object each time.

    A collective that still makes it is waited for, as its first use would.

    Args:
        t: any tensor. A DTensor may be held by several processes, and what a functional collective
            has returned (AsyncCollectiveTensor), too.

    Returns:
        t itself where it is neither, or where what is here is a summand of its values (Partial).
    """
    if type(t) is Tensor:
        return t
    values: Any = t
    if is_distributed(t) and not partial_placements(t):
        values = t._local_tensor  # type: ignore[attr-defined]
    module = sys.modules.get("torch.distributed._functional_collectives")
    if module is not None and isinstance(values, module.AsyncCollectiveTensor):
        with torch._C.DisableTorchFunction():
            values.trigger_wait()
        values = values.elem
    found: Tensor = values
    return found


def partial_placements(t: Tensor) -> str:
    """How the values of a DTensor are still to be reduced: "Partial(sum)"; "" where they are not.

    Of any other tensor "", too.
    """
    placements = t.placements if is_distributed(t) else ()  # type: ignore[attr-defined]
    return ", ".join(repr(p) for p in placements if p.is_partial())


def runs_for_shapes() -> bool:
    """Whether a pipeline's stage runs now for its outputs' shapes, on inputs without a meaning."""
    module = sys.modules.get("torch.distributed.pipelining.stage")
    run = getattr(getattr(module, "PipelineStage", None), "_forward_metadata_inference", None)
    if run is None:
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not run.__code__:
        frame = frame.f_back
    return frame is not None
