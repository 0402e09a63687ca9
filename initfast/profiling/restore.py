"""What a forward changes in a net and in torch, put back afterwards."""

from __future__ import annotations

from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initfast.interception.module_calls import CALL
from initfast.undo_log import UndoLog


def put_back_later(modules: list[nn.Module], log: UndoLog) -> None:
    """Have the log put the random state and the buffers of training modules back.

    A module that has given itself another buffer gets its attributes back as well, in any mode:
    they may tell what the buffer was.

    Where threads do this at the same time, what was before all of them stands in the end: who ends
    leaves what he found to those that began after him.
    """
    with _LOCK:
        found = _Found(modules)
        log.add(_put_back, found)
        _ACTIVE.append(found)


def _put_back(found: _Found) -> None:
    with _LOCK:
        if found in _ACTIVE:
            found.put_back()
            for later in _ACTIVE[_ACTIVE.index(found) + 1 :]:
                later.inherit(found)
            _ACTIVE.remove(found)


class _Found:
    """The random state and the modules as they were."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._random = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        self._saved = {id(m): _Saved(m) for m in modules if m._buffers or not _is_torchs(m)}

    def put_back(self) -> None:
        torch.set_rng_state(self._random)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        for one in self._saved.values():
            one.put_back()

    def inherit(self, earlier: _Found) -> None:
        """Put back what the earlier one found."""
        self._random, self._cuda = earlier._random, earlier._cuda or self._cuda
        self._saved.update((i, one) for i, one in earlier._saved.items() if i in self._saved)


_ACTIVE: list[_Found] = []  # in the order of their beginning
_LOCK = Lock()


class _Saved:
    """The buffers and attributes of a module."""

    __slots__ = ("attributes", "buffers", "copies", "module", "transient")

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.attributes = _attributes(module)
        self.buffers = dict(module._buffers.items())
        self.copies = _copies(module) if self.buffers else []
        self.transient = set(module._non_persistent_buffers_set)

    def put_back(self) -> None:
        for tensor, copy in self.copies:
            storage = tensor.untyped_storage()
            if tensor.shape == copy.shape and (storage.nbytes() or not copy.numel()):
                # .data counts its versions apart: an older graph may have saved the tensor.
                tensor.data.copy_(copy)
            else:  # resized, or its memory given away
                tensor.data = copy
        now = self.module._buffers
        if not (now or self.buffers):
            return
        if not isinstance(now, dict) or _are_the_same(now, self.buffers):
            return
        own = self.module.__dict__
        for name in _attributes(self.module).keys() - self.attributes.keys():
            del own[name]
        own.update(self.attributes)
        names = self.module._non_persistent_buffers_set
        names.clear()
        names |= self.transient
        now = self.module._buffers  # last: they tell whether this has been done
        now.clear()
        now.update(self.buffers)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Its attributes, but for the call that a profile has put in the place of its own."""
    own = module.__dict__.copy()  # at once: other threads' profiles put their calls there
    own.pop(CALL, None)
    return own


def _is_torchs(module: nn.Module) -> bool:
    """Whether it is one of torch's modules, whose forward gives them no buffers."""
    return type(module).__module__.startswith("torch.nn.modules.")


def _are_the_same(a: dict[str, Tensor | None], b: dict[str, Tensor | None]) -> bool:
    return a.keys() == b.keys() and all(t is b[name] for name, t in a.items())


def _copies(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Copies of the buffers that a forward may write to: those of a module in training mode.

    Whether it did cannot be told: batch norm writes past the version counter.
    """
    return [
        (t, t.clone())
        for t in module._buffers.values()
        if module.training
        and t is not None
        and not is_lazy(t)
        and not t.is_inference()
        and torch._debug_has_internal_overlap(t) != 1  # expanded: torch refuses to write to it
    ]
