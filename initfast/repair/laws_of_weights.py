"""What initialisers give a weight, which of them it fits, and where it stands in its net."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from initfast.init.fans import FAN_MODES
from initfast.repair.parameter_facts import ParameterFacts
from initfast.repair.parameter_kinds import DENSE, plain_name
from initfast.repair.schemes.law import Law, normal, truncated, truncated_to, uniform
from initfast.stats.families import BY_CHANCE, SAMPLE, SIGMAS, Family

TOLERANCE = 0.005
"""How far a std may lie from a law's beside what chance explains, relative."""

ERRORS = 5.0
"""Standard errors that chance explains."""

SLACK = 0.02
"""How far a kurtosis may lie from a law's beside what chance explains."""

ROUNDING = 2.0**-8
"""How far bfloat16 moves a number, relative."""


def fits(law: Law, found: Family) -> bool:
    """Whether numbers of that mean, std, kurtosis and extremes may be drawn from a law.

    Args:
        law: one that has no parts, and is of independent numbers.
        found: the numbers, those of a constant too.
    """
    if law.family == "constant" or not law.scale:
        return found.name == "constant" and math.isclose(found.mean, law.scale, abs_tol=1e-12)
    if found.name == "constant":  # one number is constant, whatever it was drawn from
        return found.count == 1 and abs(found.mean) <= SIGMAS * law.scale
    if found.name == "other" or abs(found.mean) > SIGMAS * law.std() / math.sqrt(found.count):
        return False
    error = math.sqrt((law.kurtosis - 1) / (4 * found.count))
    if abs(found.std / law.std() - 1) > ERRORS * error + TOLERANCE:
        return False
    n = min(found.count, SAMPLE)
    off = abs(found.kurtosis - law.kurtosis)
    return not off > SIGMAS * math.sqrt(24 / n) + SLACK and _has_extremes(law, found)


def _has_extremes(law: Law, found: Family) -> bool:
    """Whether the largest of n numbers lies within the law's edge, and no farther than by chance.

    So many as n P(|x| > largest) would lie beyond, and none does with a probability exp(-that).
    """
    uniform_edge = math.sqrt(3) * law.scale
    edge = uniform_edge if law.family == "uniform" else law.cut * law.scale
    largest = found.largest * found.std
    if largest > edge * (1 + ROUNDING):
        return False
    largest *= 1 + ROUNDING
    if law.family == "uniform":
        beyond = 1 - largest / edge
    else:
        root = math.sqrt(2) * law.scale
        beyond = (math.erfc(largest / root) - math.erfc(edge / root)) / math.erf(edge / root)
    return found.count * beyond <= -math.log(BY_CHANCE)


def as_found(found: Family, std: float) -> Law:
    """The law of a random family, with another std before its cut."""
    if found.name == "uniform":
        return uniform(std)
    return normal(std) if math.isinf(found.cut) else truncated(std, found.cut)


class Initialiser(NamedTuple):
    """One call of an initialiser, and what it gives a weight."""

    call: str
    law: Law


@lru_cache(maxsize=1024)  # most weights of a net are like others
def initialisers(fans: tuple[int, int]) -> tuple[Initialiser, ...]:
    """The usual initialisers of a weight with these fans.

    Args:
        fans: fan_in and fan_out.

    Example:
        >>> initialisers((100, 50))[0].call
        "kaiming_uniform_(a=√5), torch's default"
    """
    return tuple(_initialisers(*fans))


def _initialisers(fan_in: int, fan_out: int) -> Iterator[Initialiser]:
    def std(scale: float, mode: str = "fan_in") -> float:
        return math.sqrt(scale / FAN_MODES[mode](fan_in, fan_out))

    yield Initialiser("kaiming_uniform_(a=√5), torch's default", uniform(std(1 / 3)))
    for family, drawn in (("uniform", uniform), ("normal", normal)):
        kinds = {"lecun": (1.0, "fan_in", ""), "xavier": (1.0, "fan_avg", "")}
        kinds["kaiming"] = 2.0, "fan_in", 'nonlinearity="relu"'
        for name, (scale, mode, words) in kinds.items():
            yield Initialiser(f"{name}_{family}_({words})", drawn(std(scale, mode)))
        out = drawn(std(2.0, "fan_out"))
        yield Initialiser(f'kaiming_{family}_(mode="fan_out", nonlinearity="relu")', out)
        tanh = drawn(std(25 / 9, "fan_avg"))
        yield Initialiser(f"xavier_{family}_(gain=5/3)", tanh)
    yield Initialiser("lecun_normal_(), cut at 2 sigma", truncated_to(std(1.0)))
    at_3 = truncated(std(1.0), 3.0)
    yield Initialiser("trunc_normal_(std=1/√fan_in, cut at 3 sigma)", at_3)
    yield Initialiser("normal_(std=√(2 / (5 fan_in))), small init", normal(std(0.4)))


def drawn_by(facts: ParameterFacts) -> Iterator[Initialiser]:
    """The usual initialisers of a weight by its fans, and by those that programs take for them.

    torch's take no note of transposition, none of a stride.
    """
    fan_in, fan_out = facts.fan_in, facts.fan_out
    yield from initialisers((fan_in, fan_out))
    if facts.kind == "transposed convolution":
        for call, law in initialisers((fan_out, fan_in)):
            yield Initialiser(f"{call}, of the fans the other way", law)
        for call, law in initialisers((max(fan_in // facts.stride, 1), fan_out)):
            yield Initialiser(f"{call}, of the fan_in over the stride", law)


FIXED = (1.0, 0.1, 0.05, 0.02, 0.01, 0.006, 0.005, 0.001)
"""Stds that programs write as numbers."""


def law_in_words(facts: ParameterFacts, blocks: int) -> str:
    """The initialiser that a weight fits best; "" where it fits none, or is no weight."""
    found = facts.family
    if found is None or not found.is_random or facts.kind not in DENSE:
        return ""
    candidates = [Initialiser(f"std={std:g}", as_found(found, std)) for std in FIXED]
    depth = max(blocks, 1)
    scaled = as_found(found, 0.02 / math.sqrt(2 * depth))
    candidates.append(Initialiser(f"std=0.02 / √(2 · {depth} blocks)", scaled))
    if facts.kind not in ("embedding", "position embedding"):
        candidates += drawn_by(facts)
    fitting = [c for c in candidates if fits(c.law, found)]
    return min(fitting, key=lambda c: _distance(c, found)).call if fitting else ""


def _distance(c: Initialiser, found: Family) -> float:
    return abs(math.log(found.std / c.law.std()))


# ---- where a parameter stands ----


class Location(NamedTuple):
    """A parameter, and where it stands in its net.

    facts: what is known of it. block: its block's number, from 0; -1 outside. blocks: how many
    there are. width: of the residual stream, 0 where not known.
    """

    facts: ParameterFacts
    block: int
    blocks: int
    width: int


_NUMBER = re.compile(r"(?:^|(?<=\.))(\d+)(?=\.)")


def locations(facts: Sequence[ParameterFacts]) -> list[Location]:
    """Each parameter with its location in the net, as far as names and shapes tell it."""
    counts: dict[str, set[int]] = {}
    found = [_block_of(f.name) for f in facts]
    for container, index in filter(None, found):
        counts.setdefault(container, set()).add(index)
    tables = [f.shape[1] for f in facts if f.kind == "embedding" and len(f.shape) == 2]
    outs = [f.fan_out for f in facts if f.kind == "residual output"]
    width = (outs or tables or [0])[0]
    return [
        Location(f, block[1] if block else -1, len(counts[block[0]]) if block else 0, width)
        for f, block in zip(facts, found, strict=True)
    ]


def _block_of(name: str) -> tuple[str, int] | None:
    """The container of the block that a parameter is in, and the block's number."""
    found = _NUMBER.search(plain_name(name))
    return None if found is None else (plain_name(name)[: found.start()], int(found[1]))
