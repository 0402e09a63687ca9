"""Files that are written whole or not at all, also where two processes write the same one."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file in place of what is there, in one step; a pipe or a device is written to.

    Args:
        path: of the file; of a link, what it points to is replaced.
        content: all of it.

    Raises:
        OSError: it cannot be written, with a message of one line that names the file and why.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(content)  # of a directory the system says what it is
            return
        _replace(target, content)
    except OSError as error:
        missing = not target.parent.is_dir()
        why = f"there is no directory {str(target.parent)!r}" if missing else error.strerror
        raise type(error)(error.errno, f"cannot write {str(path)!r}: {why}") from None


def _replace(target: Path, content: bytes) -> None:
    beside = target.with_name(f".{uuid.uuid4().hex}.partial")  # a rename within one file system
    try:
        with open(beside, "xb") as file:
            file.write(content)
        if target.exists():
            shutil.copymode(target, beside)
        os.replace(beside, target)
    except BaseException:  # an interrupt too
        beside.unlink(missing_ok=True)
        raise
