"""How far a profile is, for those who wait for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TextIO, TypeAlias

from initfast.interception.module_calls import MISSED, ModuleCall

Progress: TypeAlias = Callable[[str, int, int], None]
"""Is told the stage, how much of it is done, and of how much; 0 of 0 where that is not known."""

PATIENCE = 2.0
"""Seconds before anything is shown."""

_INTERVAL = 0.2  # seconds between two looks


class TerminalProgress:
    """Shows it on a terminal: by tqdm where that is installed, else a line that is rewritten.

    Args:
        stream: of the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = monotonic()
        self._next = self._start + PATIENCE
        self._stage = ""
        self._bar: Any = None
        self._wrote = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """So much of the stage is done."""
        now = monotonic()
        if now < self._next:
            return
        self._next = now + _INTERVAL
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, _new_bar(stage, self._stream)
        if self._bar is None:
            many = f", {done} of {total} modules" if total else ""
            self._stream.write(f"\r\x1b[Kinitfast: {stage}, {now - self._start:.0f} s{many}")
            self._stream.flush()
            self._wrote = True
            return
        self._bar.total, self._bar.n = total or None, done
        self._bar.refresh()

    def close(self) -> None:
        """Take away what is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._wrote:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._wrote = False


def _new_bar(stage: str, stream: TextIO) -> Any:
    """A bar of tqdm's; None where that is not installed."""
    try:
        from tqdm import tqdm  # when something is shown, and where it is there
    except ImportError:
        return None
    return tqdm(desc=f"initfast: {stage}", file=stream, leave=False, unit=" modules")


def shown_progress() -> TerminalProgress | None:
    """What shows the progress on standard error; None where that is no terminal."""
    stream = sys.stderr
    is_shown = stream is not None and stream.isatty()
    return TerminalProgress(stream) if is_shown else None


def count_calls(calls: Sequence[ModuleCall], progress: Progress, stage: str) -> None:
    """Have calls of modules tell how many of them are done; only of those that are counted."""
    done, total = 0, len(calls)

    def tick() -> None:
        nonlocal done
        done += 1
        progress(stage, done, max(done, total))

    def counted(after: Any) -> Any:
        def then(*arguments: Any) -> None:
            after(*arguments)
            tick()

        return then

    def counted_short(short: Any) -> Any:
        def run(call: ModuleCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            y = short(call, args, kwargs)
            if y is not MISSED:
                tick()
            return y

        return run

    for call in calls:
        call.after = counted(call.after)
        if call.module._modules:
            call.short = None  # it would run what it contains past its calls
        elif call.short is not None:
            call.short = counted_short(call.short)
