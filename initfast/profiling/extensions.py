"""Which recorder and which function mode a forward has: extended ones where `measure=` asks."""

from __future__ import annotations

from collections.abc import Collection

from initfast.interception.function_mode import Fusion
from initfast.recording.gradients import Gradients
from initfast.recording.recorder import Recorder


def recorder_of(
    measure: Collection[str], gradients: Gradients | None, stop_at_nonfinite: bool = False
) -> Recorder:
    """A recorder of what is asked for; the extended one is imported where there is a need."""
    if not measure:
        return Recorder(stop_at_nonfinite, gradients)
    from initfast.recording.extended_recorder import ExtendedRecorder

    return ExtendedRecorder(measure, stop_at_nonfinite, gradients)


def fusion_of(recorder: Recorder) -> type[Fusion]:
    """The function mode that shows this recorder what it keeps."""
    if type(recorder) is Recorder:
        return Fusion
    from initfast.interception.extended_fusion import ExtendedFusion

    return ExtendedFusion
