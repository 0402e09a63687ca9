"""What is told of every net's parameters, right or wrong, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from initfast.repair.examined import Examined, several
from initfast.repair.laws_of_weights import Location
from initfast.repair.parameter_kinds import DENSE, GATES, block_pattern, plain_name
from initfast.stats.families import Family
from initfast.stats.text import number


def of(net: Examined) -> Iterator[str]:
    """The remarks on a net, one sentence each."""
    for facts in net.facts:
        if facts.tied:
            yield f"Tied: {several([facts.name, *facts.tied])} are one tensor."
    yield from _residual_outputs(net.locations)
    yield from _gates(net.locations)
    yield from _zeros(net.locations)
    yield from _unread(net.locations)


def _drawn(locations: Sequence[Location], kind: str) -> list[tuple[Location, Family]]:
    return [
        (p, p.facts.family)
        for p in locations
        if p.facts.kind == kind and p.facts.family is not None and p.facts.family.std > 0
    ]


def _residual_outputs(locations: Sequence[Location]) -> Iterator[str]:
    """Whether what writes into the residual stream is scaled by depth, for each kind of output."""
    inner = [(p, f) for p, f in _drawn(locations, "linear") if p.block >= 0]
    kinds: dict[str, list[tuple[Location, Family]]] = {}
    for p, found in _drawn(locations, "residual output"):
        kinds.setdefault(block_pattern(p.facts.name), []).append((p, found))
    if not inner:
        return
    base = sorted(found.std for _, found in inner)[len(inner) // 2]
    for name, members in kinds.items():
        scale = _depth_law([(p, f.std / base) for p, f in members])
        stds = sorted(f.std for _, f in members)
        yield f"Residual output {name!r}: std {_range(stds)}, {scale} (others: {number(base)})."


def _depth_law(ratios: Sequence[tuple[Location, float]]) -> str:
    laws = {
        "not scaled by depth": lambda p: 1.0,
        "scaled by 1/√(2 · blocks)": lambda p: 1 / math.sqrt(2 * max(p.blocks, 1)),
        "scaled by 1/√(2 (l + 1)), l its block": lambda p: 1 / math.sqrt(2 * (max(p.block, 0) + 1)),
    }
    for words, law in laws.items():
        if all(abs(ratio / law(p) - 1) < 0.1 for p, ratio in ratios):
            return words
    return "of a scale of its own"


def _range(stds: Sequence[float]) -> str:
    low, high = number(stds[0]), number(stds[-1])
    return low if low == high else f"{low} to {high}"


def _gates(locations: Sequence[Location]) -> Iterator[str]:
    """Both factors of gated feed-forward parts beside each other."""
    names = {plain_name(p.facts.name): p for p in locations}
    told: set[str] = set()
    for name, p in names.items():
        path, _, key = name.removesuffix(".weight").rpartition(".")
        for first, second in GATES:
            other = names.get(f"{path}.{second}.weight")
            if key != first or other is None or block_pattern(name) in told:
                continue
            told.add(block_pattern(name))
            a, b = number(p.facts.std), number(other.facts.std)
            yield f"Gated part {block_pattern(path)!r}: {first} has std {a}, {second} {b}."


def _zeros(locations: Sequence[Location]) -> Iterator[str]:
    """Weights, and the weights of norms, that start at zero."""
    zero = [
        block_pattern(p.facts.name)
        for p in locations
        if p.facts.kind in (*DENSE, "norm")
        and p.facts.family is not None
        and p.facts.family.name == "constant"
        and p.facts.family.mean == 0
    ]
    for name in dict.fromkeys(zero):
        count = zero.count(name)
        yield f"Starts at zero: {name!r}" + (f" ({count} of them)." if count > 1 else ".")


def _unread(locations: Sequence[Location]) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for p in locations:
        if p.facts.family is None:
            reasons.setdefault(p.facts.note, []).append(p.facts.name)
    for reason, names in reasons.items():
        yield f"Not read: {several(names)} ({reason})."
