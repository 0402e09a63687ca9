"""What other threads that run the net leave in its buffers, told from what a profile leaves there.

A thread that calls the net itself is another's: it trains it, say. What it calls finds the buffers
as the profile found them, and what it leaves there stays. So does what any earlier thread leaves
in one of torch's own modules: it may have called the net before the profile began. Threads that the
net starts, and those of a backward, call but parts of it: what they write is the profile's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import active_count, get_ident
from threading import enumerate as threads
from typing import Any

from torch import nn

from initfast.interception.function_mode import profiling
from initfast.interception.module_calls import ReplacedCall
from initfast.profiling.buffers import Buffers, put_back, take


class NetCall(ReplacedCall):
    """What runs in the place of the net's call: notes which other threads run it.

    Args:
        net: the module that is profiled, in this thread.

    Attributes:
        thread: this one.
        others: those that run the net and do not profile it.
        earlier: those that there were when this was made; they may run the net already.
    """

    __slots__ = ("earlier", "others", "thread")

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.thread = get_ident()
        self.others: set[int] = set()
        self.earlier = {t.ident for t in threads()} - {self.thread}

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

    Of torch's modules one call runs at a time, and the profile's writes to copies: nothing that
    such a module returns in training depends on what it has written before, and another thread's
    call that was under way already writes to the buffers themselves. Of other modules, which may
    wait for each other, what is written while calls of two threads overlap cannot be told apart.

    Args:
        buffers: of the module.
        net_call: knows the other threads.
    """

    __slots__ = ("_buffers", "_net_call")

    def __init__(self, buffers: Buffers, net_call: NetCall) -> None:
        super().__init__(buffers.module)
        self._buffers = buffers
        self._net_call = net_call

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns."""
        buffers, net_call, thread = self._buffers, self._net_call, get_ident()
        run = partial(self.as_before, args, kwargs)
        with buffers.lock:
            if thread in net_call.others or (buffers.is_alone and thread in net_call.earlier):
                return self._run_for_another(run)
            if buffers.is_alone and active_count() > 1:
                return buffers.run_on_copies(run)
            return run()

    def _run_for_another(self, run: Callable[[], Any]) -> Any:
        buffers = self._buffers
        if not buffers.is_alone:
            if profiling():
                return run()
            put_back([buffers])
        try:
            return run()
        finally:
            take([buffers])
