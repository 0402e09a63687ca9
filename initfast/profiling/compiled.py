"""Nets that torch.compile has changed: a profile runs them as they were written."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from initfast.shared_patch import SharedPatch
from initfast.undo_log import UndoLog

NOTE = "The net is compiled; it was profiled eagerly, so fused kernels may round differently."


def is_compiled(modules: Iterable[nn.Module]) -> bool:
    """Whether any of the modules runs compiled code."""
    if "torch._dynamo" not in sys.modules:
        return False
    wrapper = torch._dynamo.OptimizedModule
    return any(_call_of(m) is not None or isinstance(m, wrapper) for m in modules)


def _call_of(module: nn.Module) -> Any:
    """What torch.compile put in the place of a module's call; None: nothing."""
    call: Any = module._compiled_call_impl
    while hasattr(call, "before"):  # a Profiler's, which stands before that
        call = call.before
    return call


def _force_eager(log: UndoLog) -> None:
    frames: Any = torch._dynamo.eval_frame
    log.add(frames._set_stance, frames._stance)
    torch.compiler.set_stance("force_eager")


_EAGER = SharedPatch(_force_eager)  # the stance is that of all threads


def run_eagerly(log: UndoLog) -> None:
    """Nothing runs compiled until the log is undone; hooks and function modes see everything."""
    if "torch._dynamo" in sys.modules:  # else nothing is compiled, and the import takes a second
        _EAGER.make(log)
