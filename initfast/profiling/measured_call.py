"""One call of a net that a Profiler measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from initfast.nets.names import NetNames
from initfast.nets.pytree import tensors
from initfast.nets.shards import pipeline_stage
from initfast.profiling.arguments import ProfilerArguments
from initfast.profiling.compiled import NOTE, run_eagerly
from initfast.profiling.extensions import recorder_of
from initfast.profiling.forward import MeasuredForward
from initfast.recording.gradients import Gradients
from initfast.report.report import Report
from initfast.undo_log import UndoLog


class MeasuredCall:
    """One measured call of a net, and the backwards through its graph.

    Args:
        arguments: of the Profiler.
        names: of the net's modules.
        root: of the report.
        is_compiled: whether torch.compile has changed the net.
        number: which call it is; the net's first is 1.
        given: what the net is called with.
    """

    def __init__(
        self,
        arguments: ProfilerArguments,
        names: NetNames,
        root: str,
        is_compiled: bool,
        number: int,
        given: Any,
    ) -> None:
        self.number = number
        self._gradients = Gradients(fuse=False, scaler=arguments.scaler)
        self._gradients.armed = True
        recorder = recorder_of(arguments.measure, names.modules, given, self._gradients)
        recorder.stage = pipeline_stage()
        notes = [NOTE] if is_compiled else []
        self._forward = MeasuredForward(names, recorder, root, notes, plain=True)

    def run(
        self, net: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], log: UndoLog
    ) -> Any:
        """What the net returns."""
        run_eagerly(log)
        given = [t for _, t in tensors((args, kwargs))]
        return self._forward.run(lambda: net(*args, **kwargs), given)

    def report(self) -> Report:
        """What was measured so far."""
        return self._forward.report()

    def awaits_backward(self) -> bool:
        """Whether there is a graph, and no backward went through it so far."""
        return self._gradients.awaited()

    def release(self) -> None:
        """Measure no further backward."""
        self._gradients.release()
