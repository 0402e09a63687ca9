"""Where the code of a layer stands, for annotations."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn


class Place(NamedTuple):
    """A line of a file of the repository.

    Attributes:
        file: its path from the repository's root.
        line: from 1.
    """

    file: str
    line: int


def place_of(net: Any, name: str, target: Any) -> Place | None:
    """The class of the layer, of the nearest module around it that is the user's, or the target.

    Args:
        net: whose module has that name.
        name: the path of the module.
        target: the function or class that made the net.
    """
    for thing in (*_classes(net, name), target):
        place = _place(thing)
        if place is not None:
            return place
    return None


def _classes(net: Any, name: str) -> Iterator[type]:
    if not isinstance(net, nn.Module):
        return
    parts = name.split(".") if name else []
    for count in range(len(parts), -1, -1):
        try:
            yield type(net.get_submodule(".".join(parts[:count])))
        except AttributeError:  # a function's own name for a row
            continue


def _place(thing: Any) -> Place | None:
    """None outside of the repository: a library's classes are not where the fault is."""
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    try:
        file = Path(inspect.getsourcefile(thing) or "").resolve()
        line = inspect.getsourcelines(thing)[1]
    except (TypeError, OSError):
        return None
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    if installed or not file.is_relative_to(root):
        return None
    return Place(file.relative_to(root).as_posix(), max(line, 1))
