"""What tells which layer made a tensor: its moments, which stay where it is only rearranged."""

from __future__ import annotations

from initfast.stats.moments import Moments


def fingerprint(m: Moments) -> tuple[float, ...]:
    """What tells tensors apart and stays the same where one is reshaped."""
    return (m.count, m.nonfinite, m.zero, m.min, m.max, float(f"{m.std:.6g}"))
