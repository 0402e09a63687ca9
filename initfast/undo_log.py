"""What undoes changes, entered before each is made, and done in one step whatever interrupts.

An interrupt (Ctrl-C, or what a signal's handler raises) comes where Python calls a function or goes
round a loop: as ``__exit__`` is called, or between a change and the ``try`` after it. So ``with``
and ExitStack may leave changes behind. As in a database's undo log, an entry is written before its
change, does no harm where nothing was changed, and may be done twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_TRIES = 3
"""How often an entry is tried: once more for each interrupt, within reason."""


class UndoLog:
    """Changes that are undone together, the last one first."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def add(self, undo: Callable[..., object], *args: Any) -> None:
        """Enter what undoes a change that follows; before the change, or twice, it does no harm."""
        self._entries.append((undo, args))

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that the owner itself has, until undone or somebody else sets it."""
        self.add(_put_back, owner, name, value, vars(owner)[name])
        setattr(owner, name, value)

    def keep(self) -> None:
        """Let every change stay: all have been made."""
        self._entries.clear()

    def undo(self, quiet: bool = False) -> None:
        """Undo every change; what is undone already is left alone.

        Args:
            quiet: an error is on its way already, which no other takes the place of.

        Raises:
            BaseException: what interrupted it, in the end; or else the last error of an entry, if
                it is not to be quiet.
        """
        entries, raised, tries = self._entries, None, 0
        while entries:
            try:
                tries += 1
                undo, args = entries[-1]
                undo(*args)
                entries.pop()
                tries = 0
            except BaseException as error:
                if raised is None or isinstance(raised, Exception):
                    raised = error
                if tries == _TRIES:
                    entries.pop()
                    tries = 0
        if raised is not None and not (quiet and isinstance(raised, Exception)):
            raise raised


def with_undo_log(body: Callable[[UndoLog], T]) -> T:
    """What body returns; what it has entered in its log is undone, however it ends.

    Raises:
        BaseException: what body raises, or what interrupts it or the undoing.
    """
    log, fails = UndoLog(), True
    try:
        try:
            result = body(log)
            fails = False
            return result
        except BaseException as error:
            _end_context_managers(error)
            raise
        finally:
            log.undo(fails)
    finally:  # an interrupt may come as undo is called
        log.undo(quiet=True)


def _end_context_managers(error: BaseException) -> None:
    """Have the context managers of contextlib end whose end an interrupt has cut off.

    They would as the error's frames go, and change once more what is undone before that.
    """
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == contextlib.__file__:
            with contextlib.suppress(RuntimeError):  # it runs: the error was raised before, too
                trace.tb_frame.clear()
        trace = trace.tb_next


def _put_back(owner: Any, name: str, ours: Any, found: Any) -> None:
    if vars(owner).get(name) is ours:
        setattr(owner, name, found)
