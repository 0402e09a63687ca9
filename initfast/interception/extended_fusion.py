"""A function mode for what `measure=` asks for: it sees attention, recurrence, all outputs."""

from __future__ import annotations

from typing import Any

from initfast.interception.attention_calls import AttentionCalls
from initfast.interception.function_mode import Fusion
from initfast.interception.recurrent_calls import RecurrentCalls
from initfast.recording.extended_recorder import ExtendedRecorder


class ExtendedFusion(Fusion):
    """Watches every function; torch's own make all values, so that each output is there to see."""

    recorder: ExtendedRecorder

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plain = True
        self._attention: AttentionCalls | None = None
        if "attention" in self.recorder.measure:
            self._attention = AttentionCalls(self.recorder, self.running, self.queue)
        self._recurrent: RecurrentCalls | None = None
        if "recurrent" in self.recorder.measure:
            self._recurrent = RecurrentCalls(self.recorder, self.running)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._recurrent is not None:
            self._recurrent.see(func, args)
        if self._attention is None:
            return super().__torch_function__(func, types, args, kwargs)
        run = super().__torch_function__
        return self._attention.call(func, types, args, kwargs or {}, run)
