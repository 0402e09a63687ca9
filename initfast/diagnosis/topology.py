"""Which layers follow which, and which play the same role."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from initfast.diagnosis.trends import LEAST_POINTS
from initfast.stats.layer import Layer


def parents(layers: Sequence[Layer]) -> list[int | None]:
    """For each layer the one whose output is its input, told by their moments."""
    made: dict[tuple[float, ...], int] = {}
    found: list[int | None] = []
    for i, layer in enumerate(layers):
        source = None if layer.input is None else made.get(layer.input.fingerprint)
        found.append(source)
        if layer.post.finite > 1:
            made[layer.post.fingerprint] = i
    return found


def after_constant(layers: Sequence[Layer], source: Sequence[int | None]) -> set[int]:
    """The layers that take what a layer of constant output has made, or follow such.

    Where plain code lies between, a constant input tells that one before has lost all.

    Args:
        layers: of a net.
        source: their :func:`parents`.
    """
    found: set[int] = set()
    constant: set[int] = set()
    for i, (layer, before) in enumerate(zip(layers, source, strict=True)):
        given = layer.input
        is_given_one = given is not None and given.finite > 1 and not given.m2
        if before in found or before in constant or (constant and is_given_one):
            found.add(i)
        if layer.post.finite > 1 and not layer.post.m2:
            constant.add(i)
    return found


def chains(source: Sequence[int | None]) -> list[list[int]]:
    """Runs of layers each of which takes the output of the one before; the longest first.

    Args:
        source: the layers' :func:`parents`.
    """
    depth: list[int] = []
    for before in source:
        depth.append(0 if before is None else depth[before] + 1)
    used: set[int] = set()
    found = []
    for end in sorted(range(len(source)), key=lambda i: -depth[i]):
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
    """Layers that play one role along the depth: blocks of one stack have them, and run the same.

    The names of what is stacked are numbers. A number that is part of a name, as in norm1 and norm2
    of one block, tells roles apart; but plain code that calls its own weights fc1, fc2 stacks them.
    A list within a block is a stack of its own only where each part takes what the last has made.

    Their fans must agree, or the shapes of their outputs where they have no weight: a net that
    grows wider, or pools more, from stage to stage changes the scale by that alone.
    """
    found: dict[tuple[object, ...], list[int]] = defaultdict(list)
    stacks = _stacks(layers)
    for i, layer in enumerate(layers):
        if "parametrizations." in layer.name:
            continue  # makes a weight, and is no part of the signal's way
        weight = layer.weight
        size = layer.shape if weight is None else (weight.fan_in, weight.fan_out)
        found[_role(layer, stacks), layer.op, size].append(i)
    return [members for members in found.values() if len(members) >= LEAST_POINTS]


def _role(layer: Layer, stacks: set[str]) -> str:
    """A layer's name with the numbers left out that count its blocks."""
    parts = layer.name.split(".")
    numbers = [p for p, part in enumerate(parts) if part.isdigit()]
    for p in numbers:
        is_deeper = p + 1 < len(parts) and ".".join(layer.name.split(".")[:p]) in stacks
        if p == numbers[0] or is_deeper:
            parts[p] = "#"
    if layer.weight is not None or len(parts) > 1:
        parts[0] = re.sub(r"\d+", "#", parts[0])
    return ".".join(parts)


def _stacks(layers: Sequence[Layer]) -> set[str]:
    """The paths of the lists whose parts take, one after the other, what the last has made."""
    made: dict[tuple[float, ...], set[tuple[str, int]]] = defaultdict(set)
    found: set[str] = set()
    for layer in layers:
        if layer.input is not None:
            before, parts = made[layer.input.fingerprint], _parts(layer.name)
            found.update(path for path, part in parts if (path, part - 1) in before)
        if layer.post.finite > 1:
            ends = {end for name in layer.names for end in _parts(name)}
            made[layer.post.fingerprint] = ends
    return found


def _parts(name: str) -> list[tuple[str, int]]:
    """For each number in a path what comes before it, and the number."""
    parts = name.split(".")
    return [(".".join(parts[:p]), int(x)) for p, x in enumerate(parts) if x.isdigit()]
