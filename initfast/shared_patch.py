"""Changes to torch that several ask for: the first makes them, the last one's end undoes them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from initfast.undo_log import UndoLog


class SharedPatch:
    """A change that lasts while anybody asks for it; they overlap where threads use them.

    Args:
        make: makes the change, and enters in a log what undoes it.
    """

    def __init__(self, make: Callable[[UndoLog], None]) -> None:
        self._make = make
        self._lock = Lock()
        self._users: set[object] = set()
        self._is_made = False
        self._log = UndoLog()

    def make(self, log: UndoLog) -> None:
        """Make the change, unless it is made; it lasts at least until the log is undone."""
        user = object()
        log.add(self._leave, user)
        with self._lock:
            self._users.add(user)
            if not self._is_made:
                self._log.undo()  # what an interrupted one has made in part
                self._make(self._log)
                self._is_made = True

    def _leave(self, user: object) -> None:
        with self._lock:
            self._users.discard(user)
            if not self._users:
                self._is_made = False
                self._log.undo()
