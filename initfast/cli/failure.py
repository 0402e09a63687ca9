"""Failure: why a command could not do its work, in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from initfast.stats.text import printable


class Failure(Exception):
    """The run itself failed: its text is the line that the user reads; the exit status is 2."""


def one_line(error: BaseException) -> str:
    """The type, the message and the notes of an error, in one line."""
    message = str(error).partition("Exception raised from")[0]  # and not the C++ calls after it
    parts = [message, *getattr(error, "__notes__", ())]
    text = "; ".join(" ".join(part.split()) for part in parts if part.strip())
    kind = type(error).__name__
    return printable(f"{kind}: {text}" if text else kind)


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Run what the user wrote: an error, also an exit, is a Failure; what it prints is no output.

    Args:
        what: what the code is, to begin the line: "nets.py:make_net".
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Failure, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit: a script without a `__main__` guard
        raise Failure(f"{what} raised {one_line(error)}") from error
