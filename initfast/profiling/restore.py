"""What a forward changes in a net and in torch, put back afterwards."""

from __future__ import annotations

from threading import Lock, RLock, active_count
from time import sleep
from typing import Any

import torch
from torch import nn

from initfast.interception.module_calls import ReplacedCall, install, release
from initfast.profiling.buffers import Buffers, is_torchs, put_back, take
from initfast.profiling.other_threads import BufferCall, NetCall
from initfast.undo_log import UndoLog


def put_back_later(modules: list[nn.Module], log: UndoLog) -> Found:
    """Have the log put the random state and the buffers of training modules back.

    A module that has given itself another buffer gets its attributes back as well, in any mode.
    What other threads that call the first of the modules leave in the buffers stays; but what they
    draw, and what they write to buffers in other ways, is put back too, and a call that is under
    way for more than a millisecond as this begins may lose what it writes.

    Where threads do this at the same time, what was before all of them stands in the end: who ends
    leaves what he found to those that began after him.

    Returns:
        What was there before.
    """
    found = Found(modules)
    log.add(_put_back, found)
    install(found.calls)
    if found.calls and active_count() > 1:
        sleep(_GRACE)
    with _LOCK:
        found.take()
        _ACTIVE.append(found)
    return found


def _put_back(found: Found) -> None:
    with _LOCK:
        if found in _ACTIVE:
            found.put_back()
            for later in _ACTIVE[_ACTIVE.index(found) + 1 :]:
                later.inherit(found)
            _ACTIVE.remove(found)
    release(found.calls)


class Found:
    """The random state and the modules as they were.

    Attributes:
        calls: what stands in the place of modules' calls until then.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        self._lock = RLock()  # of torch's modules, none of which calls another in its forward
        own = (m for m in modules if m._buffers or not is_torchs(m))
        self._buffers = {id(m): Buffers(m, self._lock) for m in own}
        written = [one for one in self._buffers.values() if one.may_be_written]
        self.calls: list[ReplacedCall] = []
        if written:
            net_call = NetCall(modules[0])
            self.calls = [*(BufferCall(one, net_call) for one in written), net_call]

    def take(self) -> None:
        """Find what is there now."""
        self._random = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        with self._lock:
            take(self._buffers.values())

    def put_back(self) -> None:
        """Let the random state and the buffers be as they were."""
        torch.set_rng_state(self._random)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        with self._lock:
            put_back(self._buffers.values())

    def attributes(self) -> list[tuple[nn.Module, dict[str, Any]]]:
        """The attributes that the modules had which may give themselves others."""
        return [(one.module, one.attributes) for one in self._buffers.values()]

    def inherit(self, earlier: Found) -> None:
        """Put back what the earlier one found."""
        self._random, self._cuda = earlier._random, earlier._cuda or self._cuda
        mine = self._buffers
        mine.update((i, one) for i, one in earlier._buffers.items() if i in mine)


_GRACE = 1e-3  # seconds, for what other threads have called before this stood in its place
_ACTIVE: list[Found] = []  # in the order of their beginning
_LOCK = Lock()
