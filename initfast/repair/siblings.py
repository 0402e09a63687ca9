"""Like parameters of a net, and those among them that depart from what the others share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from initfast.repair.parameter_facts import ParameterFacts
from initfast.repair.parameter_kinds import pattern, plain_name
from initfast.stats.families import SIGMAS

SHARE = 0.75
"""The share of a group that must agree before another departs from it."""

SLACK = 0.03
"""How far the logarithms of stds may lie apart beside what chance explains."""


@dataclass(frozen=True)
class Group:
    """Parameters of one shape whose names differ in one number.

    Attributes:
        pattern: their names, a # for that number.
        members: places in the facts, by that number.
        numbers: these numbers.
        in_blocks: whether the number is a block's, not the parameter's own module's.
    """

    pattern: str
    members: tuple[int, ...]
    numbers: tuple[int, ...]
    in_blocks: bool

    def judged(self) -> tuple[int, ...]:
        """The members that may depart: of a plain sequence the first and last may be special."""
        return self.members if self.in_blocks else self.members[1:-1]


def groups(facts: Sequence[ParameterFacts], least: int = 4) -> Iterator[Group]:
    """All groups of so many parameters at least; a parameter is in one for each number it has."""
    found: dict[tuple[str, tuple[int, ...]], list[tuple[int, int]]] = {}
    blocks: dict[tuple[str, tuple[int, ...]], bool] = {}
    for i, one in enumerate(facts):
        if one.family is None or not one.family.count:
            continue
        parts = plain_name(one.name).split(".")
        for at, part in enumerate(parts):
            if part.isdigit():
                key = ".".join([*parts[:at], "#", *parts[at + 1 :]]), one.shape
                found.setdefault(key, []).append((int(part), i))
                blocks[key] = at < len(parts) - 2
    for key, numbered in found.items():
        if len(numbered) >= least:
            numbers, members = zip(*sorted(numbered), strict=True)
            yield Group(key[0], members, numbers, blocks[key])


def by_pattern(facts: Sequence[ParameterFacts], least: int = 4) -> Iterator[tuple[int, ...]]:
    """Parameters of one kind whose names differ in numbers only, of whatever shapes."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, one in enumerate(facts):
        if one.family is not None and one.family.name != "few" and one.family.count:
            found.setdefault((pattern(one.name), one.kind), []).append(i)
    yield from (tuple(members) for members in found.values() if len(members) >= least)


def departing(group: Group, facts: Sequence[ParameterFacts]) -> list[tuple[int, str]]:
    """The members that depart from what three in four share, and what that is, in words."""
    families = {i: facts[i].family for i in group.members}
    constants: dict[float, list[int]] = {}
    drawn = []
    for i, found in families.items():
        if found is not None and found.name == "constant":
            constants.setdefault(found.mean, []).append(i)
        elif found is not None:
            drawn.append(i)
    value, same = max(constants.items(), key=lambda item: len(item[1]), default=(0.0, []))
    if _agree(len(same), len(group.members)):
        return [(i, f"all {value:g}") for i in group.judged() if i not in same]
    if not _agree(len(drawn), len(group.members)):
        return []
    odd = [(i, "drawn at random") for i in group.judged() if i not in drawn]
    return odd + _odd_stds(group, facts, drawn)


def _agree(count: int, total: int) -> bool:
    return count >= 3 and count >= SHARE * total


def _odd_stds(
    group: Group, facts: Sequence[ParameterFacts], drawn: Sequence[int]
) -> list[tuple[int, str]]:
    """The members whose std departs from one that is shared, or falls as 1/√(l + 1) with depth."""
    number = dict(zip(group.members, group.numbers, strict=True))
    flat = _outliers(facts, drawn, dict.fromkeys(drawn, 0.0))
    falling = _outliers(facts, drawn, {i: 0.5 * math.log(number[i] + 1) for i in drawn})
    best, by_depth = (falling, True) if len(falling[0]) < len(flat[0]) else (flat, False)
    outliers, std = best
    if not _agree(len(drawn) - len(outliers), len(group.members)):
        return []
    words = f"of std {std:.4g}" + (" / √(l + 1)" if by_depth else "")
    return [(i, words) for i in group.judged() if i in outliers]


def _outliers(
    facts: Sequence[ParameterFacts], drawn: Sequence[int], depth: dict[int, float]
) -> tuple[set[int], float]:
    logs = {i: math.log(found.std) + depth[i] for i in drawn if (found := facts[i].family)}
    middle = statistics.median(logs.values())
    bad = {
        i
        for i, value in logs.items()
        if (found := facts[i].family)
        and abs(value - middle) > SIGMAS * math.sqrt(2) * found.error + SLACK
    }
    return bad, math.exp(middle)
