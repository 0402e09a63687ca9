"""How many units a layer has, and how many of them are dead, as far as a batch tells."""

from __future__ import annotations

import numpy as np


def count_units(live: np.ndarray | None, values: int) -> tuple[int | None, int | None]:
    """A layer's `units` and `dead_units`; None where they are not known.

    Args:
        live: which units are not zero over the whole batch; None where that was not measured.
        values: how many the layer's output has. Where that is one a unit or none, as of a single
            sample, a zero tells nothing of the unit.
    """
    if live is None or values <= live.size:
        return None, None
    return live.size, int(np.count_nonzero(~live))
