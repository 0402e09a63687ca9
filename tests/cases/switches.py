"""How long the seeded fuzzers and fault injectors run."""

import os


def times(count: int) -> int:
    """So many cases; ten times as many with INITFAST_LONG_FUZZ=1."""
    return 10 * count if os.environ.get("INITFAST_LONG_FUZZ") == "1" else count
