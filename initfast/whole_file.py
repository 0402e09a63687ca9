"""Files that are written whole or not at all, also where two processes write the same one."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file in place of what is there, in one step; a pipe or a device is written to.

    Args:
        path: of the file; of a link, what it points to is replaced.
        content: all of it.

    Raises:
        OSError: it cannot be written, with a message of one line that names the file and why.
    """
    try:
        # Of a directory the system says what it is. A pipe has no name of its own that
        # /dev/stdout could be resolved to.
        if os.path.exists(path) and not os.path.isfile(path):
            Path(path).write_bytes(content)
            return
        with replacing(path) as beside:
            beside.write_bytes(content)
    except OSError as error:
        folder = Path(os.path.realpath(path)).parent
        why = error.strerror if folder.is_dir() else f"there is no directory {str(folder)!r}"
        raise type(error)(error.errno, f"cannot write {str(path)!r}: {why}") from None


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the path of a new file, which takes the place of the old one if the block succeeds.

    Args:
        path: of the file; of a link, what it points to is replaced.

    Raises:
        OSError: it cannot be made, or the path is that of a pipe, a device or a directory.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "it is there, and is no file")
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{uuid.uuid4().hex}.partial")  # a rename within one file system
    try:
        yield beside
        if target.exists():
            shutil.copymode(target, beside)
        os.replace(beside, target)
    except BaseException:  # an interrupt too
        beside.unlink(missing_ok=True)
        raise
