"""What other threads that run the net leave in its buffers, told from what a profile leaves there.

A thread that calls the net itself is another's: it trains it, say. What it calls finds the buffers
as the profile found them, and leaves what the profile will put back. Threads that the net starts,
and those of a backward, call but parts of it: what they write is the profile's.
"""

from __future__ import annotations

import sys
from collections.abc import Container
from threading import get_ident
from time import sleep
from types import FrameType
from typing import Any

from torch import nn

from initfast.interception.function_mode import profiling
from initfast.interception.module_calls import TORCHS_CALL, ReplacedCall
from initfast.profiling.buffers import Buffers

_CALL = TORCHS_CALL.__code__
_LOOKS = 1000


def _running(frame: FrameType | None) -> set[int]:
    """The ids of the modules whose calls a thread runs."""
    found = set()
    while frame is not None:
        if frame.f_code is _CALL:
            found.add(id(frame.f_locals.get("self")))
        frame = frame.f_back
    return found


class NetCall(ReplacedCall):
    """What runs in the place of the net's call: notes which other threads run it.

    Args:
        net: the module that is profiled, in this thread.

    Attributes:
        thread: this one.
        others: those that run the net and do not profile it.
    """

    __slots__ = ("others", "thread")

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.thread = get_ident()
        self.others: set[int] = set()

    def note_running(self, profiled: Container[int], alone: set[int]) -> None:
        """Note the threads that run the net already, and wait until no call goes past this.

        Args:
            profiled: threads that profile the net.
            alone: the ids of the modules of which one call runs at a time. A thread that was seen
                outside of their calls can only begin others (a grace period, as in RCU).
        """
        waiting: set[int] | None = None
        for _ in range(_LOOKS):
            inside = set()
            for thread, frame in sys._current_frames().items():
                if thread != self.thread and thread not in profiled:
                    running = _running(frame)
                    if id(self.module) in running:
                        self.others.add(thread)
                    if not running.isdisjoint(alone):
                        inside.add(thread)
            waiting = inside if waiting is None else waiting & inside
            if not waiting:
                return
            sleep(0)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the net returns."""
        thread = get_ident()
        if thread == self.thread or thread in self.others or profiling():
            return self.as_before(args, kwargs)
        self.others.add(thread)
        try:
            return self.as_before(args, kwargs)
        finally:
            self.others.discard(thread)


class BufferCall(ReplacedCall):
    """What runs in the place of the call of a module whose buffers are to be put back.

    Of torch's modules one call runs at a time. Of others, which may wait for each other, what is
    written while calls of two threads overlap cannot be told apart.

    Args:
        buffers: of the module.
        net_call: knows the other threads.
    """

    __slots__ = ("_buffers", "_others")

    def __init__(self, buffers: Buffers, net_call: NetCall) -> None:
        super().__init__(buffers.module)
        self._buffers = buffers
        self._others = net_call.others

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns."""
        buffers = self._buffers
        with buffers.lock:
            if get_ident() not in self._others:
                return self.as_before(args, kwargs)
            buffers.put_back()
            try:
                return self.as_before(args, kwargs)
            finally:
                buffers.take()
