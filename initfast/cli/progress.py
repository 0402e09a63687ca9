"""How far a long run is, and how long it may still take, on a terminal's standard error."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

PATIENCE = 2.0
"""Seconds before anything is shown."""


class Progress:
    """One line on standard error that is rewritten; nothing where that is no terminal.

    Use it as a context; :meth:`stage` says what runs, :meth:`at` how much of it is done.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._is_shown = self._stream.isatty()
        self._what, self._done, self._total = "", 0, 0
        self._stage_start = self._start = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Progress:
        if self._is_shown:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._is_shown:
            self._thread.join()

    def stage(self, what: str) -> None:
        """What runs from now on."""
        self._what, self._done, self._total = what, 0, 0
        self._stage_start = time.monotonic()

    def at(self, done: int, total: int) -> None:
        """So much of the stage is done."""
        self._done, self._total = done, total

    def line(self, now: float) -> str:
        """What is shown at that time of :func:`time.monotonic`."""
        text = f"{self._what}: {now - self._start:.0f} s"
        if 0 < self._done < self._total:
            left = (now - self._stage_start) * (self._total / self._done - 1)
            text += f", {self._done} of {self._total}, about {left:.0f} s left"
        return text

    def _show(self) -> None:
        shown = False
        wait = PATIENCE
        while not self._over.wait(wait):
            self._stream.write(f"\r\x1b[K{self.line(time.monotonic())}")
            self._stream.flush()
            shown, wait = True, 0.5
        if shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
