"""Numbers of a tensor counted by half octaves, by torch's operators, on whatever device it is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from initfast.stats.histogram import Histogram

_BLOCK = 1 << 20
_LEAST = {torch.float64: -1080}
"""Below every exponent of a dtype; of all but float64's, in float32, -148 is the least."""


def half_octaves(t: Tensor) -> Tensor:
    """How many of a tensor's numbers lie in each half octave: negative ones, zeros, positive ones.

    One pass, without a wait for its largest number. What is not finite is left out.

    Returns:
        The counts; :func:`read` knows their places.
    """
    t = t.detach().reshape(-1)
    least = _LEAST.get(t.dtype, -160)
    places = 4 * -least
    counts = torch.zeros(2 * places + 2, dtype=torch.int64, device=t.device)
    for part in t.split(_BLOCK):
        part = part if part.dtype is torch.float64 else part.float()
        magnitude = part.abs()
        fraction, exponent = magnitude.frexp()
        # A half octave holds its upper end: a power of two, of which the fraction is 0.5.
        at = 2 * (exponent.long() - least) + (fraction > 0.75).long() - (fraction == 0.5).long()
        at = torch.where(part == 0, 0, at * part.sign().nan_to_num().long())
        at = torch.where(part.isfinite(), at + places, 2 * places + 1)
        counts += torch.bincount(at, minlength=len(counts))
    return counts


def read(counts: Tensor) -> Histogram:
    """What counts say, copied from their device."""
    found = counts.cpu().numpy()[:-1]
    middle = len(found) // 2
    least = -middle // 4
    negative: dict[int, int] = {}
    positive: dict[int, int] = {}
    for i in np.flatnonzero(found).tolist():
        if i != middle:
            own = positive if i > middle else negative
            own[abs(i - middle) + 2 * least] = int(found[i])
    return Histogram.of(negative, positive, int(found[middle]))
