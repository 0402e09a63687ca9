"""How much runs: the gate's slice, or everything."""

import os

LONG = os.environ.get("INITFAST_LONG_FUZZ") == "1"


def times(count: int, long: int | None = None) -> int:
    """So many cases; with INITFAST_LONG_FUZZ=1 `long`, or ten times as many."""
    return (long or 10 * count) if LONG else count
