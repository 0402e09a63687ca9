"""Where a forward is to stop: after the first operator with a non-finite value, without waiting.

Rows are judged in the order in which the operators ran. On the CPU a row is there at once. A card's
rows travel to pinned memory behind the kernels that make them, and a CUDA event tells when they
have arrived: a look takes what has arrived and leaves the rest. So on a card the forward ends some
operators late, by what was launched until the row arrived; at its end all rows are waited for. The
report ends at that first operator either way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from initfast.ops.reference_moments import COLUMNS
from initfast.recording.events import Event


class NonFinite(BaseException):
    """Ends a forward at its first non-finite value; no Exception, so that nets do not catch it."""


class Arrival(Protocol):
    """Tells when numbers have reached the host; torch.cuda.Event is one."""

    def query(self) -> bool:
        """Whether they have."""

    def synchronize(self) -> None:
        """Wait until they have."""


class Travel:
    """Takes rows to the host.

    A card's go to pinned memory, which is asked for in large pieces: that may stall the card.
    """

    def __init__(self) -> None:
        self._room: Tensor | None = None

    def start(self, rows: Tensor) -> tuple[Tensor, Arrival | None]:
        """The rows on the host, and what tells when they have arrived; None if they are there."""
        if not rows.is_cuda:
            return rows, None
        copy = self._take(rows.numel()).view(rows.shape).copy_(rows, non_blocking=True)
        arrival = torch.cuda.Event()
        arrival.record(torch.cuda.current_stream(rows.device))
        return copy, arrival

    def _take(self, count: int) -> Tensor:
        room = self._room
        if room is None or room.numel() < count:
            size = max(count, _NUMBERS)
            with torch.inference_mode(False):  # to be written to in and outside of it
                room = torch.empty(size, dtype=torch.float64, device="cpu", pin_memory=True)
        self._room = room[count:]
        return room[:count]


_NUMBERS = COLUMNS << 10
"""1024 rows."""


class Stopping:
    """Judges what the operators measured.

    Args:
        events: of what ran so far; the function that made the first non-finite value is put in
            where no layer did.

    Attributes:
        end: of how many events the report is made; None: of all.
    """

    def __init__(self, events: list[Event]) -> None:
        self.end: int | None = None
        self._events = events
        self._travel = Travel()
        self._queue: deque[tuple[Tensor, Arrival | None, Callable[[Tensor], None]]] = deque()
        # By the address of a function's non-finite result: the event of the function that made it.
        self._makers: dict[int, Event] = {}

    def operator(self, rows: Tensor) -> None:
        """The last event's rows: of its pre-activation, if it has one, and of its output."""
        self._put(rows, partial(self._judge, len(self._events) - 1))

    def function(self, event: Event, row: Tensor) -> None:
        """The row of a function's result, which is no layer's.

        It need not end in any layer's (softmax forgets the infinities of a mask), so it is
        remembered until a layer has non-finite values that come from it.
        """
        self._put(row, partial(self._remember, event))

    def wait(self) -> None:
        """Judge what is still on its way; raises :class:`NonFinite` too."""
        self._look(wait=True)

    def _put(self, rows: Tensor, judge: Callable[[Tensor], None]) -> None:
        self._queue.append((*self._travel.start(rows), judge))
        self._look()

    def _look(self, wait: bool = False) -> None:
        if self.end is not None:  # the net has caught the first NonFinite
            raise NonFinite
        while self._queue:
            rows, arrival, judge = self._queue[0]
            if arrival is not None and not arrival.query():
                if not wait:
                    return
                arrival.synchronize()
            self._queue.popleft()
            judge(rows)

    def _remember(self, event: Event, row: Tensor) -> None:
        if _has_nonfinite(row):
            inputs = event.source.inputs
            passed_on = [self._makers[i] for i in inputs if i is not None and i in self._makers]
            self._makers[event.post] = passed_on[0] if passed_on else event

    def _judge(self, index: int, rows: Tensor) -> None:
        if not _has_nonfinite(rows):
            return
        event = self._events[index]
        self.end = index + 1
        for address in (*event.source.inputs, event.post):
            maker = self._makers.get(-1 if address is None else address)
            if maker is not None and not _is_all_of(maker, event):
                self._events.insert(index, maker)
                self.end += 1
                break
        raise NonFinite


def _has_nonfinite(rows: Tensor) -> bool:
    """Whether the pre-activation's row or the output's counts any; a weight's comes third."""
    return bool(rows.numpy().reshape(-1, COLUMNS)[:2, 1].any())


def _is_all_of(function: Event, module: Event) -> bool:
    """Whether a module is one function, of the same input: then it speaks for itself."""
    a, b = function.source, module.source
    same = (function.post, a.name) == (module.post, b.name)
    return same and (a.input, a.further_inputs) == (b.input, b.further_inputs)
