"""Torch's fast path through attention, where what the net computes must stay the same.

In evaluation mode without gradients `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` run as
one function, and `nn.TransformerEncoder` on nested tensors. No function mode may watch these. So
the module runs by itself first, and its result is the net's; then it runs the usual way, for what
is inside to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.nn.parameter import Parameter

from initfast.interception.deferred_tensor import DeferredTensor, resolved
from initfast.interception.function_mode import Fusion
from initfast.interception.module_calls import ReplacedCall, Running, install, release
from initfast.interception.module_outputs import FAST_PATH, PADDED
from initfast.interception.queue import Queue
from initfast.nets.pytree import tensors
from initfast.recording.recorder import Recorder
from initfast.torch_state import autocast_enabled, is_traced, mode_stack, transforms
from initfast.undo_log import UndoLog, with_undo_log

INSIDE = (
    "What torch runs by its fast path in evaluation mode without gradients, through "
    "nn.TransformerEncoder and its layers and nn.MultiheadAttention, ran once more without it for "
    "what is inside to be measured: that rounds otherwise, drops out where dropout is in training "
    "mode, and measures padding too. The modules' own outputs, which the net goes on with, are the "
    "fast path's."
)

_REPLACED = (FAST_PATH, PADDED)
_KINDS = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)


class FastPaths:
    """The modules of a net that torch may run by its fast path.

    Args:
        modules: of the net.
        running: the calls that run.
        queue: has what waits.
        recorder: keeps what is measured.

    Attributes:
        calls: one for each such module, to be installed before those that measure its output.
    """

    def __init__(
        self, modules: list[nn.Module], running: Running, queue: Queue, recorder: Recorder
    ) -> None:
        self.calls = [FastPathCall(m, self) for m in modules if _may_have_one(m)]
        self._queue = queue
        self._recorder = recorder
        self._is_within = False  # a module whose result is known
        self._running = running
        self._was_taken = False

    def notes(self, found: list[str]) -> list[str]:
        """Those of the outputs, with what holds here in the place of what holds elsewhere."""
        if not self._was_taken:
            return found
        return [*(note for note in found if note not in _REPLACED), INSIDE]

    def may_be_taken(self, module: nn.Module, given: Any) -> bool:
        """Whether a module may run by it now."""
        if module.training or self._is_within or self._running.thread != get_ident():
            return False
        if type(module) is nn.MultiheadAttention and not _is_of_one_tensor(*given):
            return False
        if module_hooks._has_any_global_hook():
            return False
        if not all(isinstance(mode, Fusion) for mode in mode_stack()):
            return False
        if is_traced() or transforms() is not None or any(map(_has_hooks, module.modules())):
            return False
        own = list(module.parameters())
        if torch.is_grad_enabled() and any(p.requires_grad for p in own):
            return False
        return all(type(t) in _PLAIN for t in (*own, *(t for _, t in tensors(given))))

    def result(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What a module returns by its fast path; :data:`_MISSED` where torch does not take it."""

        def run(log: UndoLog) -> Any:
            guards = [_Guard(inner) for inner in module.modules() if inner is not module]
            log.add(release, guards)
            install(guards)
            with torch._C.DisableTorchFunction():
                return module.forward(*args, **kwargs)

        try:
            y = with_undo_log(run)
        except _OtherwiseError:
            return _MISSED
        self._was_taken = True
        return y

    def measure(self, call: FastPathCall, args: Any, kwargs: Any, y: Any, log: UndoLog) -> None:
        """Run a module the usual way, whose result is y."""
        if any(m.training for m in call.module.modules()):
            log.add(torch.set_rng_state, torch.get_rng_state())
            if torch.cuda.is_initialized():
                log.add(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
        log.add(setattr, self, "_is_within", False)
        self._is_within = True
        measured = call.as_before(args, kwargs)
        self._queue.settle()
        self._same(call.module, y, measured)

    def _same(self, module: nn.Module, y: Any, measured: Any) -> None:
        """What was measured stands for y, unless they differ by more than rounding."""
        if any(m.training for m in module.modules()) or isinstance(module, nn.TransformerEncoder):
            return
        for (_, ours), (_, theirs) in zip(tensors(y), tensors(measured), strict=False):
            value = resolved(theirs)
            address = self._recorder.find(value)
            if address is not None and ours.shape == value.shape:
                self._recorder.keep(ours, address)


class FastPathCall(ReplacedCall):
    """The call of one such module."""

    __slots__ = ("_paths",)

    def __init__(self, module: nn.Module, paths: FastPaths) -> None:
        super().__init__(module)
        self._paths: FastPaths | None = paths

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns without a profile."""
        paths = self._paths
        if paths is None or not paths.may_be_taken(self.module, (args, kwargs)):
            return self.as_before(args, kwargs)
        args, kwargs = resolved(args), resolved(kwargs)
        y = paths.result(self.module, args, kwargs)
        if y is _MISSED:
            return self.as_before(args, kwargs)
        with_undo_log(partial(paths.measure, self, args, kwargs, y))
        return y

    def end(self) -> None:
        """Do nothing from now on."""
        self._paths = None


class _OtherwiseError(Exception):
    """Torch does not take the fast path: it calls what is inside."""


class _Guard(ReplacedCall):
    """The call of a module inside, until it is known whether torch takes the fast path."""

    __slots__ = ("_thread",)

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self._thread = get_ident()

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a layer makes of a nested tensor, and the norm at the end of the layers."""
        if get_ident() != self._thread:
            return self.as_before(args, kwargs)
        module = self.module
        x = args[0] if args else None
        is_nested = isinstance(x, Tensor) and x.is_nested
        if isinstance(module, nn.LayerNorm) or (is_nested and type(module) in _KINDS):
            return module.forward(*args, **kwargs)
        raise _OtherwiseError


def _may_have_one(module: nn.Module) -> bool:
    """Whether a module is of a kind, and an attention built so, that torch has a fast path for.

    A subclass, or one inside, has a forward of its own, which must not run twice.
    """
    if type(module) is nn.MultiheadAttention:
        fits = module.batch_first and module._qkv_same_embed_dim and module.num_heads % 2 == 0
        return bool(fits)
    if type(module) not in _KINDS:
        return False
    return all(type(m) in _KINDS for m in module.modules() if isinstance(m, _KINDS))


def _is_of_one_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether torch takes an attention's fast path for these arguments: self-attention of a batch.

    Elsewhere an attention calls nothing inside that would tell the usual way.
    """
    names = ("query", "key", "value")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    query, key, value = map(given.get, names)
    if not (query is key is value and isinstance(query, Tensor) and query.dim() == 3):
        return False
    return torch.backends.mha.get_fastpath_enabled() and not autocast_enabled()


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


_MISSED = object()
_PLAIN = (Tensor, Parameter, DeferredTensor)
