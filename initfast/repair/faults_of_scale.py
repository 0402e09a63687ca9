"""Checks of parameters' scales against those of their like in the same net."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from initfast.diagnosis.findings import Finding
from initfast.repair.examined import Examined, fault
from initfast.repair.laws_of_weights import FIXED, Initialiser, Location, fits, initialisers
from initfast.repair.parameter_facts import ParameterFacts
from initfast.repair.parameter_kinds import (
    ATTENTION_OUTPUTS,
    DENSE,
    GATES,
    pattern,
    plain_name,
    torch_fans,
)
from initfast.repair.schemes.law import normal
from initfast.repair.siblings import SHARE, by_pattern, departing, groups
from initfast.stats.text import number

_OWN = "initfast's audited nets (tests/repair/nets_as_built.py)"

NOTICEABLE = 0.1
"""How far a std must lie from its siblings', relative, before that is told."""


RARE = 0.05
"""The share of parameters of several shapes that may depart from a law that the others fit."""

# ---- one of many ----


def off_scheme(net: Examined) -> Iterator[Finding]:
    """One parameter departs from the scheme that its siblings follow."""
    told: set[int] = set()
    for group in groups(net.facts):
        for i, shared in departing(group, net.facts):
            if i not in told:
                told.add(i)
                yield _departs(net, i, f"{len(group.members) - 1} siblings are {shared}")
    for members in by_pattern(net.facts):
        for i, law in _against_law(net.facts, members):
            if i not in told:
                told.add(i)
                yield _departs(net, i, f"{len(members) - 1} siblings are drawn by {law}")


def _departs(net: Examined, i: int, others: str) -> Finding:
    facts = net.facts[i]
    return fault(
        net,
        [i],
        "warning",
        "off_scheme",
        f"it is {facts.family}; its {others}",
        value=facts.family.std if facts.family else 0.0,
        threshold=NOTICEABLE,
        source=_OWN,
        cause="a rule by name or type has missed it, or it was initialised twice",
        advice="initialise it as its siblings",
    )


def _against_law(
    facts: Sequence[ParameterFacts], members: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """The members that do not fit the initialiser, by their own fans, that the others share."""
    if facts[members[0]].kind not in DENSE - {"embedding", "position embedding", "recurrent"}:
        return
    laws = {i: {c.call: c.law for c in _any_fans(facts[i])} for i in members}
    fitting = Counter(
        call
        for i in members
        for call, law in laws[i].items()
        if (found := facts[i].family) and fits(law, found)
    )
    call, count = max(fitting.items(), key=lambda item: item[1], default=("", 0))
    others = len(members) - count
    if count < 3 or not 0 < others <= max(1, RARE * len(members)):
        return
    leaves = facts[members[0]].name.split(".")[-2:-1]
    inner = members if not leaves or not leaves[0].isdigit() else members[1:-1]
    for i in inner:
        found, law = facts[i].family, laws[i].get(call)
        if found is None or law is None or fits(law, found) or found.name == "constant":
            continue
        if abs(math.log(found.std / law.std())) > NOTICEABLE:
            yield i, call


def _any_fans(facts: ParameterFacts) -> Iterator[Initialiser]:
    """The initialisers by the fans of the shape, as torch takes them, and by the true ones."""
    yield from (Initialiser(f"normal_(std={s:g})", normal(s)) for s in FIXED)
    yield from initialisers(torch_fans(facts.shape))
    for call, law in initialisers((facts.fan_in, facts.fan_out // facts.fused)):
        yield Initialiser(f"{call} of its groups", law)
    if facts.stride > 1:
        for call, law in initialisers((max(facts.fan_in // facts.stride, 1), facts.fan_out)):
            yield Initialiser(f"{call} over its stride", law)


# ---- depth ----


def depth_scale(net: Examined) -> Iterator[Finding]:
    """One of two like matrices is scaled by the net's depth and the other is not."""
    yield from _gates(net)
    yield from _outputs(net)


def _gates(net: Examined) -> Iterator[Finding]:
    """The two factors of a gated feed-forward part: scaling one scales their product."""
    names = {plain_name(f.name): i for i, f in enumerate(net.facts)}
    pairs: dict[str, list[tuple[int, int]]] = {}
    for name, i in names.items():
        path, _, key = name.removesuffix(".weight").rpartition(".")
        for first, second in GATES:
            other = names.get(f"{path}.{second}.weight")
            if key == first and other is not None and _alike(net, i, other):
                pairs.setdefault(pattern(name), []).append((i, other))
    for found in pairs.values():
        if _is_depth_scale(net, found):
            yield _half_scaled(net, found, "both are factors of one product")


def _alike(net: Examined, i: int, j: int) -> bool:
    a, b = net.facts[i], net.facts[j]
    drawn = a.family is not None and b.family is not None
    return a.shape == b.shape and drawn and a.std > 0 and b.std > 0


def _is_depth_scale(net: Examined, pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether the ratios of the stds, or their inverses, are a depth's at every block."""
    logs = [math.log(net.facts[i].std / net.facts[j].std) for i, j in pairs]
    sign = 1 if sum(logs) > 0 else -1
    return any(
        all(
            abs(sign * log - math.log(factor(net.locations[i]))) < _chance(net, i, j)
            for log, (i, j) in zip(logs, pairs, strict=True)
        )
        for factor in (_whole_depth, _depth_so_far)
    )


def _whole_depth(location: Location) -> float:
    return math.sqrt(2 * max(location.blocks, 1))


def _depth_so_far(location: Location) -> float:
    return math.sqrt(2 * (max(location.block, 0) + 1))


def _chance(net: Examined, i: int, j: int) -> float:
    errors = [f.error for f in (net.facts[i].family, net.facts[j].family) if f is not None]
    return 5 * math.hypot(*errors) + 0.01


def _outputs(net: Examined) -> Iterator[Finding]:
    """What attention and the feed-forward part of a block write into the residual stream."""
    blocks: dict[int, dict[bool, int]] = {}
    inner = []
    for i, p in enumerate(net.locations):
        if p.block < 0 or p.facts.family is None or not p.facts.family.std > 0:
            continue
        if p.facts.kind == "residual output":
            path = plain_name(p.facts.name).removesuffix(".weight")
            blocks.setdefault(p.block, {})[bool(ATTENTION_OUTPUTS.search(path))] = i
        elif p.facts.kind == "linear":
            inner.append(i)
    pairs = [(b[True], b[False]) for b in blocks.values() if len(b) == 2]
    if len(pairs) < 2 or not inner or not _is_depth_scale(net, pairs):
        return
    larger = [max(pair, key=lambda i: net.facts[i].std) for pair in pairs]
    base = sorted(net.facts[i].std for i in inner)[len(inner) // 2]
    like_inner = all(abs(net.facts[i].std / base - 1) < NOTICEABLE for i in larger)
    even = sum(abs(net.facts[i].std / base - 1) < NOTICEABLE for i in inner) >= SHARE * len(inner)
    smaller = [j if i in larger else i for i, j in pairs]
    by_fan = all(
        fits(normal(1 / math.sqrt(net.facts[i].fan_in)), f)
        for i in smaller
        if (f := net.facts[i].family)
    )
    if like_inner and even and not by_fan:
        yield _half_scaled(net, pairs, "both are added to the residual stream")


def _half_scaled(net: Examined, pairs: Sequence[tuple[int, int]], why: str) -> Finding:
    i, j = pairs[-1]
    large, small = (i, j) if net.facts[i].std > net.facts[j].std else (j, i)
    a, b = net.facts[large], net.facts[small]
    return fault(
        net,
        [x for pair in pairs for x in pair],
        "warning",
        "depth_scale",
        f"{b.name!r} has std {number(b.std)}, scaled by depth; its like {a.name!r} has "
        f"{number(a.std)}, not scaled; so in {len(pairs)} blocks",
        value=a.std / b.std,
        threshold=1.0,
        source="torchtitan#3334",
        cause=f"{why}: a scale on one is no scale of the residual branch",
        advice="scale what writes into the residual stream, both of attention and of the "
        "feed-forward part, and nothing else",
    )
