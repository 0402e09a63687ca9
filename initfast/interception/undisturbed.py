"""Running what the net has not asked for as if nothing else were going on around it.

Each takes what is to run: the end of a ``with`` in Python could be cut off by an interrupt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch

from initfast.torch_state import autocast_enabled, is_traced, saved_tensor_hooks, transforms
from initfast.undo_log import UndoLog, with_undo_log

T = TypeVar("T")


def run_undisturbed(body: Callable[..., T], *args: Any) -> T:
    """What body returns; no function mode, transform or cast applies to it."""
    if transforms() is None and not autocast_enabled():
        with torch._C.DisableTorchFunction():
            return body(*args)
    with torch._C.DisableTorchFunction(), torch._C._DisableFuncTorch(), torch._C._DisableAutocast():
        return body(*args)


def run_with_graph(body: Callable[..., T], *args: Any) -> T:
    """What body returns; it makes a graph, as where nobody has asked for anything else."""
    if saved_tensor_hooks(False) is None:
        with torch._C._InferenceMode(False):  # enables gradients too
            return body(*args)
    return with_undo_log(partial(_without_hooks, partial(run_with_graph, body, *args)))


def _without_hooks(body: Callable[[], T], log: UndoLog) -> T:
    """What body returns; what its graph saves goes through no hooks."""
    ignore = torch._C._autograd._saved_tensors_hooks_set_tracing
    log.add(ignore, False)
    ignore(True)
    return body()


def run_untraced(body: Callable[..., T], *args: Any) -> T:
    """What body returns; it is no part of a trace."""
    return with_undo_log(partial(_untraced, partial(body, *args)))


def _untraced(body: Callable[[], T], log: UndoLog) -> T:
    trace: Any = torch._C._set_tracing_state  # type: ignore[attr-defined]
    log.add(trace, is_traced())
    trace(None)
    return body()
