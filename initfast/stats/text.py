"""Numbers, shares, names and dtypes as text, the same in tables and in sentences."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import torch

WIDTH = 100
"""The columns of a report where no terminal says how many it has, and the most of its prose."""

LEAST_WIDTH = 60
"""The fewest columns that a table is set in."""


def text_width() -> int:
    """The columns of standard output: COLUMNS, else the terminal's, else :data:`WIDTH`."""
    if "COLUMNS" not in os.environ and not _is_terminal(sys.stdout):
        return WIDTH
    return max(LEAST_WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def _is_terminal(stream: Any) -> bool:
    """Whether it is a terminal; it may be None, closed, or anything with a `write`."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def prose_width() -> int:
    """The columns of running text."""
    return min(WIDTH, text_width())


def number(value: float | None) -> str:
    """Four significant digits; nothing for None."""
    if value is None:
        return ""
    return f"{value:#.4g}".rstrip(".") if value else "0"


def share(value: float | None) -> str:
    """A share in per cent."""
    return "" if value is None else f"{100 * value:.4g}%" if value else "0"


def printable(text: str) -> str:
    """The text with escapes for its control characters, which a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, most: int) -> str:
    """The text in one line, with its middle left out where it is longer than anyone would read."""
    text = printable(text)
    if len(text) <= most:
        return text
    left = (most - 3) // 2
    return f"{text[:left]}...{text[left + 3 - most :]}"


def shown(text: str) -> str:
    """Likewise line by line, and with escapes for what standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    lines = "\n".join(map(printable, text.split("\n")))
    return lines.encode(encoding, "backslashreplace").decode(encoding)


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype without its module: "float32"."""
    return str(dtype).removeprefix("torch.")


def escape(text: str) -> str:
    """The text as it stands in HTML."""
    import html  # in notebooks only: its table of entities takes a tenth of our import

    return html.escape(text)


def plural(count: int, noun: str) -> str:
    """So many of them, in words: "1 layer", "2 layers"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
