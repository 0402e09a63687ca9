"""What this process holds of a tensor that several processes hold together."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any, NamedTuple

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
    return ", ".join(repr(p) for p in placements_of(t) if p.is_partial())


def placements_of(t: Tensor) -> tuple[Any, ...]:
    """How a DTensor is placed, by dimension of its mesh; () of any other tensor."""
    return t.placements if is_distributed(t) else ()  # type: ignore[attr-defined]


def part_placed_as(t: Tensor, placements: tuple[Any, ...]) -> Tensor:
    """The local part of a gradient, placed as the tensor that it is the gradient of.

    Collective among the processes that hold it, where its placement is another: what is
    Partial is reduced.
    """
    if placements_of(t) not in ((), placements):
        t = t.redistribute(placements=placements)  # type: ignore[attr-defined]
    return local_part(t)


def is_tensor_parallel(modules: Iterable[nn.Module]) -> bool:
    """Whether weights are distributed while the modules run: FSDP2's own are whole by then."""
    modules = list(modules)
    if not any(is_distributed(p) for m in modules for p in m._parameters.values()):
        return False
    gathered: set[int] = set()
    for module in modules:
        group = getattr(getattr(module, "_get_fsdp_state", lambda: None)(), "_fsdp_param_group", 0)
        for each in getattr(group, "fsdp_params", ()):
            if not getattr(each, "is_dtensor", True):
                gathered.add(id(each.sharded_param))
    own = (p for m in modules for p in m._parameters.values())
    return any(is_distributed(p) and id(p) not in gathered for p in own)


def runs_for_shapes() -> bool:
    """Whether a pipeline's stage runs now for its outputs' shapes, on inputs without a meaning."""
    return _running_stage("_forward_metadata_inference") is not None


class Stage(NamedTuple):
    """A stage of a pipeline.

    Attributes:
        number: which one, counted from 0.
        micro_batches: of how many the schedule averages the gradients; 1 where it adds them up.
    """

    number: int
    micro_batches: int = 1


def pipeline_stage() -> Stage | None:
    """Which stage of a pipeline runs now in this thread; None without one."""
    stage = _running_stage("forward_one_chunk")
    return None if stage is None else Stage(stage.stage_index, _averaged_micro_batches())


def _averaged_micro_batches() -> int:
    """How many micro-batches the schedule that runs now averages the gradients of."""
    module = sys.modules.get("torch.distributed.pipelining.schedules")
    kind = getattr(module, "_PipelineSchedule", ())
    file = getattr(module, "__file__", None)
    frame = sys._getframe().f_back
    while frame is not None:
        # The look leaves the frame a dict of its variables: not in others' frames, which may hold
        # large ones, nor in this one, of which the frame itself is one.
        schedule = frame.f_locals.get("self") if frame.f_code.co_filename == file else None
        if isinstance(schedule, kind):
            averages = getattr(schedule, "scale_grads", False)
            return int(getattr(schedule, "_n_microbatches", 1)) if averages else 1
        frame = frame.f_back
    return 1


def _running_stage(method: str) -> Any:
    """The PipelineStage whose method of this name runs now; None without one."""
    module = sys.modules.get("torch.distributed.pipelining.stage")
    run = getattr(getattr(module, "PipelineStage", None), method, None)
    frame = None if run is None else _frame_of(run.__code__)
    return None if frame is None else frame.f_locals.get("self")


def _frame_of(code: CodeType) -> FrameType | None:
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame
