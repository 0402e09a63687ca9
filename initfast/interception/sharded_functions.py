"""Follows which tensors are parts, through the functions of a net that several processes run."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack

from initfast.interception.function_effects import METADATA
from initfast.interception.function_mode import Fusion
from initfast.recording.sharded_recorder import ShardedRecorder
from initfast.shared_patch import SharedPatch
from initfast.undo_log import UndoLog

_REORDERING = frozenset(
    {
        *(Tensor.view, Tensor.reshape, torch.reshape, Tensor.transpose, torch.transpose),
        *(Tensor.permute, torch.permute, Tensor.unflatten, Tensor.flatten, torch.flatten),
        *(Tensor.movedim, torch.movedim, Tensor.swapaxes, torch.swapaxes, torch.swapdims),
        *(Tensor.t, torch.t, Tensor.swapdims, Tensor.squeeze, Tensor.unsqueeze),
    }
)
"""Functions after which a dimension of the same number may be another one."""


class ShardedFunctions(Fusion):
    """As :class:`Fusion`, and tells the recorder of what each result was computed."""

    recorder: ShardedRecorder

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watches_only = self._plain = True

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What the function returns."""
        y = super().__torch_function__(func, types, args, kwargs)
        if func not in METADATA:
            written = args[:1] if y is None else y  # as __setitem__ writes
            self.recorder.hand_on((args, kwargs), written, func not in _REORDERING)
        return y


def _tell_what_is_taken_out(log: UndoLog) -> None:
    module = sys.modules["torch.distributed.tensor"]
    original = module.DTensor.to_local

    def to_local(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        part: Tensor = original(self, *args, **kwargs)
        for mode in _get_current_function_mode_stack():
            if isinstance(mode, ShardedFunctions):
                mode.recorder.taken_out(self, part)
        return part

    log.replace(module.DTensor, "to_local", to_local)


TOLD_PARTS = SharedPatch(_tell_what_is_taken_out)
"""For as long as this lasts, a profile sees what a net takes out of DTensors."""
