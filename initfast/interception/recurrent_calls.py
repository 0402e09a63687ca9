"""The calls of torch's recurrent functions, which run all steps at once, seen with their inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from initfast.interception.module_calls import Running
from initfast.ops.dispatch import kernels_of
from initfast.recording import recurrence
from initfast.recording.extended_recorder import ExtendedRecorder
from initfast.torch_state import is_traced, transforms

_NAMES = {getattr(torch, name): name for name in recurrence.STEPS}
_ARGUMENTS = 9
"""Of each of these functions, of packed sequences or not, when torch's own modules call it."""


class RecurrentCalls:
    """Runs what each recurrent module runs once more, step by step.

    Args:
        recorder: keeps what is measured.
        running: the modules that run.
    """

    def __init__(self, recorder: ExtendedRecorder, running: Running) -> None:
        self._recorder = recorder
        self._running = running

    def see(self, func: Any, args: tuple[Any, ...]) -> None:
        """Measure a call before it runs, if it is one of a recurrent function.

        Args:
            func: any function.
            args: of the call, by position; torch's modules give all so, and a call that gives
                others by keyword is not measured.
        """
        name = _NAMES.get(func)
        if name is None or len(args) != _ARGUMENTS or transforms() is not None or is_traced():
            return
        if isinstance(args[3], bool):  # input, states, weights, has_biases, ..., batch_first
            x, states, flat, has_biases, _, _, _, both, batch_first = args
            x = x.movedim(0, 1) if batch_first else x
        else:  # of packed sequences: values, batch_sizes, states, weights, has_biases, ...
            values, sizes, states, flat, has_biases, _, _, _, both = args
            x = _longest(values, sizes)
        states = (states,) if isinstance(states, Tensor) else tuple(states)
        plain = [x, *states, *flat]
        if any(kernels_of(t) is None for t in plain) or not x.numel():
            return
        states = tuple(s[:, : x.shape[1]] for s in states)
        # Tensors of inference mode take part in no graph, but their copies do.
        with torch._C.DisableTorchFunction(), torch._C._DisableAutocast():
            with torch.inference_mode(False), torch.no_grad():
                own = [t.detach().clone() for t in (x, *states, *flat)]
                x, states, flat = own[0], tuple(own[1 : 1 + len(states)]), own[1 + len(states) :]
                found = recurrence.of_call(
                    name, x, states, flat, bool(has_biases), 2 if both else 1
                )
        self._recorder.keep_recurrence_within(self._running.name(), found)


def _longest(values: Tensor, sizes: Tensor) -> Tensor:
    """Of packed sequences those with the most steps, as [steps, sequences, features]."""
    begins = [0, *sizes.cumsum(0).tolist()]
    rows = int(sizes[-1])
    return torch.stack([values[begin : begin + rows] for begin in begins[:-1]])
