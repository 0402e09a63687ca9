"""Which layers follow which, and which play the same role."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from initfast.diagnosis.trends import LEAST_POINTS
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments


def parents(layers: Sequence[Layer]) -> list[int | None]:
    """For each layer the one whose output is its input, told by their moments."""
    made: dict[tuple[float, ...], int] = {}
    found: list[int | None] = []
    for i, layer in enumerate(layers):
        source = None if layer.input is None else made.get(fingerprint(layer.input))
        found.append(source)
        if layer.post.finite > 1:
            made[fingerprint(layer.post)] = i
    return found


def fingerprint(m: Moments) -> tuple[float, ...]:
    """What tells tensors apart and stays the same where one is reshaped."""
    return (m.count, m.nonfinite, m.zero, m.min, m.max, float(f"{m.std:.6g}"))


def chains(layers: Sequence[Layer]) -> list[list[int]]:
    """Runs of layers each of which takes the output of the one before; the longest first."""
    source = parents(layers)
    depth: list[int] = []
    for before in source:
        depth.append(0 if before is None else depth[before] + 1)
    used: set[int] = set()
    found = []
    for end in sorted(range(len(layers)), key=lambda i: -depth[i]):
        chain: list[int] = []
        at: int | None = end
        while at is not None and at not in used:
            chain.append(at)
            at = source[at]
        used.update(chain)
        if len(chain) > 1:
            found.append(chain[::-1])
    return found


def roles(layers: Sequence[Layer]) -> list[list[int]]:
    """Layers that play one role: their names differ only in numbers, and they run the same.

    Their fans must agree, or the shapes of their outputs where they have no weight: a net that
    grows wider, or pools more, from stage to stage changes the scale by that alone.
    """
    found: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, layer in enumerate(layers):
        if "parametrizations." in layer.name:
            continue  # makes a weight, and is no part of the signal's way
        weight = layer.weight
        size = layer.shape if weight is None else (weight.fan_in, weight.fan_out)
        found[re.sub(r"\d+", "#", layer.name), layer.op, size].append(i)
    return [members for members in found.values() if len(members) >= LEAST_POINTS]
