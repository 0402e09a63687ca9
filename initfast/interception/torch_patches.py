"""What is changed in torch while a profile runs, for all threads; the last one to end undoes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint
import torch.utils.dlpack
from torch._functorch import utils as functorch_utils
from torch.overrides import handle_torch_function, has_torch_function_unary

from initfast.interception.deferred_tensor import values_of
from initfast.shared_patch import SharedPatch
from initfast.undo_log import UndoLog

# ---- DLPack's export functions, which torch calls past function modes ----


def _visible(export: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which modes and subclasses see."""

    def function(data: Any, *args: Any, **kwargs: Any) -> Any:
        if has_torch_function_unary(data):
            return handle_torch_function(function, (data,), data, *args, **kwargs)
        return export(data, *args, **kwargs)

    function.__name__ = export.__name__
    return function


_NAMES = (
    (torch, "to_dlpack"),
    (torch.utils.dlpack, "to_dlpack"),
    (torch._C, "_to_dlpack"),
    (torch._C, "_to_dlpack_versioned"),
)
_EXPORTS = {export: _visible(export) for place in _NAMES if (export := getattr(*place, None))}

EXPORTS = frozenset(_EXPORTS.values())
"""What stands in for them."""


def _show_exports(log: UndoLog) -> None:
    for owner, name in _NAMES:
        if (export := getattr(owner, name, None)) in _EXPORTS:
            log.replace(owner, name, _EXPORTS[export])


VISIBLE_EXPORTS = SharedPatch(_show_exports)
"""For as long as this lasts, modes see what is exported."""

# ---- the user's own autograd functions, which torch runs past function modes ----


def _give_values(log: UndoLog) -> None:
    original = functorch_utils.unwrap_dead_wrappers

    def unwrap_dead_wrappers(args: tuple[Any, ...]) -> tuple[Any, ...]:
        values, _ = values_of(args, {})  # only what stands alone takes part in the graph
        return original(values)

    log.replace(functorch_utils, "unwrap_dead_wrappers", unwrap_dead_wrappers)


PLAIN_ARGUMENTS = SharedPatch(_give_values)
"""For as long as this lasts, `apply` computes what waits before it runs.

Also where a net has kept `apply` under a name of its own: it asks torch for this at each call.
"""

# ---- reentrant activation checkpoints, which run a backward of their own within the backward ----


class _NonReentrant:
    """Takes the place of a reentrant checkpoint, and runs as the others do."""

    @staticmethod
    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(
            function, *args, use_reentrant=False, preserve_rng_state=preserve
        )


def _replace_checkpoints(log: UndoLog) -> None:
    log.replace(torch.utils.checkpoint, "CheckpointFunction", _NonReentrant)


NON_REENTRANT_CHECKPOINTS = SharedPatch(_replace_checkpoints)
"""For as long as this lasts, reentrant activation checkpoints run as the others.

The reentrant ones run their part without a graph, and what their backward brings to the parameters
is added to `.grad`.
"""
