"""Under what code runs at a moment: gradients, casts, transforms, traces, modes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

grad_enabled = torch.is_grad_enabled
autocast_enabled = torch._C._is_any_autocast_enabled
modes = torch._C._len_torch_function_stack
mode_at = torch._C._get_function_stack_at
modes_enabled = torch._C._is_torch_function_mode_enabled
dispatch_modes = torch._C._len_torch_dispatch_stack
saved_tensor_hooks = torch._C._autograd._top_saved_tensors_default_hooks
transforms = torch._C._functorch.peek_interpreter_stack
is_traced = torch._C._get_tracing_state
torchs_linear = F.linear
"""torch's own, whatever is put in its place."""


def observed() -> bool:
    """Whether a cast, a dispatch mode or a tangent asks more of a function than its values."""
    return autocast_enabled() or dispatch_modes() > 0 or forward_ad._current_level >= 0


def operators_are_seen() -> bool:
    """Whether a compiler, a transform, a trace or a dispatch mode looks at the operators."""
    return (
        torch.compiler.is_compiling()
        or dispatch_modes() > 0
        or transforms() is not None
        or forward_ad._current_level >= 0
        or is_traced() is not None
    )


def refuses_writes(t: Tensor) -> bool:
    """Whether t is an inference tensor that is used outside of inference mode."""
    return t.is_inference() and not torch.is_inference_mode_enabled()


def mode_stack() -> list[Any]:
    """The function modes that are active, the one that is called first last."""
    return [mode_at(i) for i in range(modes())]


def leave_mode(mode: Any, found: list[Any]) -> None:
    """Leave a function mode and those entered after it; enter those found before it if left."""
    if any(m is mode for m in mode_stack()):
        while torch._C._pop_torch_function_stack() is not mode:
            pass
    for before in found[modes() :]:  # torch takes modes off while they are called
        torch._C._push_on_torch_function_stack(before)
