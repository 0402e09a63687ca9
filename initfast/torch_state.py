"""Under what code runs at a moment: gradients, casts, transforms, traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
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
    """Whether a cast, a trace or a tangent asks more of a function than its values."""
    return autocast_enabled() or dispatch_modes() > 0 or forward_ad._current_level >= 0


def leave_modes(count: int) -> None:
    """Leave the function modes that were entered after so many."""
    while modes() > count:
        torch._C._pop_torch_function_stack()


@contextmanager
def graphs() -> Iterator[None]:
    """What runs here makes a graph, as it would where nobody has asked for anything else."""
    hooks = []
    while (top := saved_tensor_hooks(True)) is not None:
        hooks.append(top)
        torch._C._autograd._pop_saved_tensors_default_hooks()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for pack, unpack in reversed(hooks):
            torch._C._autograd._push_saved_tensors_default_hooks(pack, unpack)


@contextmanager
def untraced() -> Iterator[None]:
    """What runs here is no part of a trace."""
    state = is_traced()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


def undisturbed() -> AbstractContextManager[Any]:
    """No function mode, transform or cast applies to what runs here."""
    if transforms() is None and not autocast_enabled():
        return torch._C.DisableTorchFunction()
    return _without_transforms_and_casts()


@contextmanager
def _without_transforms_and_casts() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        if transforms() is not None:
            from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

            stack.enter_context(temporarily_clear_interpreter_stack())
        if autocast_enabled():
            for device in ("cpu", "cuda"):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
