"""Which non-finite values do no harm: the infinities that a mask means."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch

from initfast.stats.layer import Layer
from initfast.stats.moments import Moments

HEADROOM = 16.0
"""What is summed must stay so far below the end of its dtype, else infinities are an overflow."""

LEAST_DRAWN = 30
LIKENESS = 4.0
"""Of so many values the mean and the std tell, to within so many of their own deviations.

More than what the checks allow chance (:data:`initfast.diagnosis.net.DEVIATIONS`): a mask that is
taken for harm silences them from there on, and two numbers have to agree.
"""


def harmless(layers: Sequence[Layer], inputs: Sequence[Moments] = ()) -> set[int]:
    """The layers whose non-finite values end there: no layer that takes them has them too.

    Softmax makes zeros of a mask's -inf. A mask may also be the last thing a net does, as in front
    of a policy's distribution: there the finite values must be those of the layer before, or their
    log_softmax. A NaN is no mask. It does no harm where the layer that takes it is seen to be
    finite; that plain code has put a number for it is believed of the softmax of rows that are
    masked all over, which makes it, and of what was NaN in the net's own input.

    Args:
        layers: of a report, in execution order.
        inputs: the moments of the net's own inputs.

    Returns:
        Their places.
    """
    if not any(layer.has_nonfinite for layer in layers):
        return set()
    takers: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for i, layer in enumerate(layers):
        for m in layer.inputs:
            takers[m.fingerprint].append(i)
    found: set[int] = set()
    spread = False  # whether a later layer has non-finite values that do harm
    for i in reversed(range(len(layers))):
        layer = layers[i]
        if not layer.has_nonfinite:
            continue
        taken = [j for j in takers[layer.post.fingerprint] if j > i]
        if taken:
            ends = all(j in found or not layers[j].has_nonfinite for j in taken)
        elif _is_masked_log_softmax(layer):
            ends = True  # if those that it takes are a mask's
        elif i + 1 < len(layers) and not layer.is_returned and "" not in layer.names:
            ends = not spread and (not layer.has_nan or _may_be_replaced(layer, inputs))
        elif layer.has_nan:
            ends = False
        else:
            ends = _only_masks(layer, layers[max(i - 1, 0)])
        if ends and _may_be_meant(layer):
            found.add(i)
        else:
            spread = True
    return found


def _may_be_meant(layer: Layer) -> bool:
    """Whether these are neither a weight's nor an activation's, and no overflow."""
    is_made = layer.weight is not None or layer.pre is not None or "Norm" in layer.op
    if is_made or layer.nonfinite_parameters:
        return False
    return reach(layer) < torch.finfo(layer.dtype).max / HEADROOM


def _is_masked_log_softmax(layer: Layer) -> bool:
    """Whether each infinity is the logarithm of the nothing that a mask's is given."""
    masked = [m.nonfinite for m in layer.inputs]
    is_one = layer.op.lower().replace("_", "") == "logsoftmax"
    return is_one and not layer.has_nan and masked == [layer.post.nonfinite]


def _may_be_replaced(layer: Layer, inputs: Sequence[Moments]) -> bool:
    """Whether a net may well know of this layer's NaN, and put numbers for them."""
    if "softmax" in layer.op.lower() and any(m.nonfinite for m in layer.inputs):
        return True
    return (layer.post.count, layer.post.nonfinite) in {(m.count, m.nonfinite) for m in inputs}


def reach(layer: Layer) -> float:
    """The largest finite magnitude in its inputs; 0 where there is none."""
    return max((max(abs(m.min), abs(m.max)) for m in layer.inputs if m.finite), default=0.0)


def _only_masks(layer: Layer, before: Layer) -> bool:
    """Whether the finite values of an output may be, unchanged, some of its input's."""
    return any(_is_part(layer.post, whole) for whole in (before.post, *layer.inputs))


def _is_part(part: Moments, whole: Moments) -> bool:
    """Whether numbers with these moments may have been drawn from those of the whole."""
    n, m = whole.count, part.finite
    if part.count != n or whole.nonfinite or m == 0:
        return False
    if not whole.min <= part.min <= part.max <= whole.max:
        return False
    if m < LEAST_DRAWN or not part.std > 0:
        return False
    chance = LIKENESS * whole.std * math.sqrt((n - m) / (n * m))
    ratio = abs(math.log(part.std / whole.std))
    return abs(part.mean - whole.mean) < chance and ratio < LIKENESS / math.sqrt(2 * m)
