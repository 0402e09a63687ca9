"""Which recorder and which function mode a forward has: others than usual where there is a need."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from torch import nn

from initfast.interception.function_mode import Fusion
from initfast.interception.sharded_functions import ShardedFunctions
from initfast.recording.gradients import Gradients
from initfast.recording.recorder import Recorder
from initfast.recording.sharded_recorder import ShardedRecorder, is_shared


def recorder_of(
    measure: Collection[str],
    modules: Iterable[nn.Module],
    x: Any,
    gradients: Gradients | None,
    stop_at_nonfinite: bool = False,
) -> Recorder:
    """A recorder of what is asked for, of a forward of modules on x.

    Raises:
        ValueError: more than usual is asked for of a net whose weights or inputs are distributed.
    """
    if is_shared(modules, x):
        if measure:
            raise ValueError(
                f"measure is {sorted(measure)} and weights or inputs of the net are distributed; "
                "expected one or the other"
            )
        return ShardedRecorder(stop_at_nonfinite, gradients)
    if not measure:
        return Recorder(stop_at_nonfinite, gradients)
    from initfast.recording.extended_recorder import ExtendedRecorder

    return ExtendedRecorder(measure, stop_at_nonfinite, gradients)


def fusion_of(recorder: Recorder) -> type[Fusion]:
    """The function mode that shows this recorder what it keeps."""
    if type(recorder) is Recorder:
        return Fusion
    if isinstance(recorder, ShardedRecorder):
        return ShardedFunctions
    from initfast.interception.extended_fusion import ExtendedFusion

    return ExtendedFusion
