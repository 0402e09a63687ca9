"""How much runs: the gate's slice, or everything."""

import os

LONG = os.environ.get("INITFAST_LONG_FUZZ") == "1"


def times(count: int) -> int:
    """So many cases; ten times as many with INITFAST_LONG_FUZZ=1."""
    return 10 * count if LONG else count
