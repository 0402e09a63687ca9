"""Parser: argparse with errors of one line; and values of options that several commands take."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

_MAX_SEED = 2**63 - 1


class Parser(argparse.ArgumentParser):
    """An error of the arguments is one line, as every other failure is."""

    def error(self, message: str) -> NoReturn:
        """Print it and end the process with status 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def seed(text: str) -> int:
    """An integer from 0 to 2^63 - 1."""
    if not text.isdecimal() or int(text) > _MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 0 to 2^63 - 1")
    return int(text)


def threads(text: str) -> int:
    """An integer from 1 to 1024."""
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to 1024")
    return int(text)


def tolerance(text: str) -> float:
    """A number from 0 up."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return value
