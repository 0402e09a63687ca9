"""Checks of parameters' scales against those of their like in the same net."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from torch import nn

from initfast.diagnosis.findings import Finding, Severity
from initfast.repair.examined import Examined, fault, several
from initfast.repair.families import Family
from initfast.repair.laws_of_weights import FIXED, Expected, Initialiser, Place, initialisers
from initfast.repair.parameter_facts import ParameterFacts
from initfast.repair.parameter_kinds import (
    ATTENTION_OUTPUTS,
    DENSE,
    GATES,
    pattern,
    plain_name,
    torch_fans,
)
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
    laws = {i: {c.call: c.expected for c in _any_fans(facts[i])} for i in members}
    fitting = Counter(
        call
        for i in members
        for call, expected in laws[i].items()
        if (found := facts[i].family) and expected.fits(found)
    )
    call, count = max(fitting.items(), key=lambda item: item[1], default=("", 0))
    others = len(members) - count
    if count < 3 or not 0 < others <= max(1, RARE * len(members)):
        return
    leaves = facts[members[0]].name.split(".")[-2:-1]
    inner = members if not leaves or not leaves[0].isdigit() else members[1:-1]
    for i in inner:
        found, expected = facts[i].family, laws[i].get(call)
        if found is None or expected is None or expected.fits(found) or found.name == "constant":
            continue
        if abs(math.log(found.std / expected.std)) > NOTICEABLE:
            yield i, call


def _any_fans(facts: ParameterFacts) -> Iterator[Initialiser]:
    """The initialisers by the fans of the shape, as torch takes them, and by the true ones."""
    yield from (Initialiser(f"normal_(std={s:g})", Expected("normal", s)) for s in FIXED)
    yield from initialisers(torch_fans(facts.shape))
    for call, expected in initialisers((facts.fan_in, facts.fan_out // facts.fused)):
        yield Initialiser(f"{call} of its groups", expected)


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
            abs(sign * log - math.log(factor(net.places[i]))) < _chance(net, i, j)
            for log, (i, j) in zip(logs, pairs, strict=True)
        )
        for factor in (_whole_depth, _depth_so_far)
    )


def _whole_depth(place: Place) -> float:
    return math.sqrt(2 * max(place.blocks, 1))


def _depth_so_far(place: Place) -> float:
    return math.sqrt(2 * (max(place.block, 0) + 1))


def _chance(net: Examined, i: int, j: int) -> float:
    errors = [f.error for f in (net.facts[i].family, net.facts[j].family) if f is not None]
    return 5 * math.hypot(*errors) + 0.01


def _outputs(net: Examined) -> Iterator[Finding]:
    """What attention and the feed-forward part of a block write into the residual stream."""
    blocks: dict[int, dict[bool, int]] = {}
    inner = []
    for i, p in enumerate(net.places):
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
        Expected("normal", 1 / math.sqrt(net.facts[i].fan_in)).fits(f)
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


# ---- fans ----


def wrong_fan(net: Examined) -> Iterator[Finding]:
    """A fused, grouped or transposed weight is drawn with the fan of a plain one's shape."""
    plain = [f for f in net.facts if _is_plain(f)]
    followers = {
        kind: {f.name: _calls(f, (f.fan_in, f.fan_out)) for f in plain if _is_conv(f) is kind}
        for kind in (False, True)
    }
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for i, facts in enumerate(net.facts):
        what = _odd_layout(net.owned[i].module, facts)
        drawn = facts.family is not None and facts.family.is_random and facts.kind in DENSE
        if not what or not drawn:
            continue
        like = followers[_is_conv(facts)]
        count = Counter(call for calls in like.values() for call in calls)
        fans = facts.fan_in, facts.fan_out // facts.fused
        blind = _calls(facts, torch_fans(facts.shape))
        right = max((count[call] for call in _calls(facts, fans)), default=0)
        call = max(blind, key=lambda c: count[c], default="default")
        if "default" in call or 2 * count[call] < len(like) or count[call] <= right:
            continue
        std = next(c.expected.std for c in initialisers(fans) if c.call == call)
        found.setdefault((what, call), []).append((i, std))
    for (what, call), wrong in found.items():
        like = followers[_is_conv(net.facts[wrong[0][0]])]
        names = [name for name, calls in like.items() if call in calls]
        yield _wrong(net, wrong, f"{what} and drawn by {call} as its shape", names)


def _calls(facts: ParameterFacts, fans: tuple[int, int]) -> list[str]:
    """The initialisers, taking these fans, that a weight may be drawn by."""
    return [c.call for c in initialisers(fans) if facts.family and c.expected.fits(facts.family)]


def _is_plain(facts: ParameterFacts) -> bool:
    kinds = ("linear", "residual output", "head", "convolution")
    return facts.kind in kinds and facts.fused == 1 and facts.family is not None


def _is_conv(facts: ParameterFacts) -> bool:
    return "convolution" in facts.kind


def _odd_layout(module: nn.Module, facts: ParameterFacts) -> str:
    if facts.fused > 1:
        return f"{facts.fused} matrices in one"
    if facts.kind == "transposed convolution":
        return "transposed"
    groups = getattr(module, "groups", 1)
    is_convolution = isinstance(module, nn.modules.conv._ConvNd)
    return "grouped" if is_convolution and groups > 1 else ""


def _wrong(
    net: Examined,
    wrong: Sequence[tuple[int, float]],
    how: str,
    followers: Sequence[str],
) -> Finding:
    i, std = wrong[0]
    facts = net.facts[i]
    others = f"; so are {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return fault(
        net,
        [i for i, _ in wrong],
        _severity(net, [i for i, _ in wrong]),
        "wrong_fan",
        f"{facts.name!r} is {how} says, with std {number(facts.std)}; by its fan_in "
        f"{facts.fan_in} and fan_out {facts.fan_out // facts.fused} that is {number(std)}, as "
        f"{several(followers, 2)} have it{others}",
        value=facts.std / std,
        threshold=1.0,
        source="pytorch#23854",
        cause="torch.nn.init takes the fans from the shape alone",
        advice="draw each of its matrices by itself"
        if facts.fused > 1
        else "pass groups= and transposed= to initfast.init's initialiser, or fans of your own",
    )


def _severity(net: Examined, wrong: Sequence[int]) -> Severity:
    """Worth knowing only, where it is the net's way, torch's own, or a norm restores the scale."""
    module = net.owned[wrong[0]].module
    if len(wrong) > 1 or isinstance(module, nn.MultiheadAttention):
        return "info"
    later = [o.module for o in net.owned[wrong[0] + 1 :] if o.module is not module]
    return "info" if later and "Norm" in type(later[0]).__name__ else "warning"


# ---- ties ----


def tied_scale(net: Examined) -> Iterator[Finding]:
    """A head and its embedding, which are or should be one tensor, are of two scales."""
    for i, facts in enumerate(net.facts):
        others = net.owned[i].others
        kinds = [type(m) for m in (net.owned[i].module, *others)]
        is_table = any(issubclass(kind, nn.Embedding) for kind in kinds)
        if is_table and any(not issubclass(kind, nn.Embedding) for kind in kinds):
            yield from _drawn_as_head(net, i)
        elif facts.kind == "embedding" and net.ties:
            yield from _untied(net, i)


def _drawn_as_head(net: Examined, i: int) -> Iterator[Finding]:
    facts = net.facts[i]
    found = facts.family
    if found is None or not found.is_random or len(facts.shape) != 2:
        return
    rows, width = facts.shape
    calls = [c.call for c in initialisers((width, rows)) if _is_heads(c) and c.expected.fits(found)]
    shared = _shared_std(net, i)
    if calls and not any(Expected(found.name, std, found.cut).fits(found) for std in FIXED):
        said = f"the std {number(found.std)} that {calls[0]} gives a linear layer of its shape"
    elif shared and abs(math.log(found.std / shared)) > 2 * NOTICEABLE:
        said = f"std {number(found.std)}, where the net's other weights have {number(shared)}"
    else:
        return
    yield fault(
        net,
        [i],
        "warning",
        "tied_scale",
        f"it is the embedding and the head at once ({several([facts.name, *facts.tied])}), and has "
        f"{said}",
        value=found.std,
        threshold=shared or found.std,
        source="fastai#2090",
        cause="the head was initialised after it was tied, and the embedding with it",
        advice="initialise the tied weight once, as an embedding",
        code=f"initfast.init.normal_(net.get_parameter({facts.name!r}), std=0.02)",
    )


def _is_heads(c: Initialiser) -> bool:
    return c.call.startswith(("kaiming", "xavier"))


def _shared_std(net: Examined, i: int) -> float:
    """The std that most matrices and tables of the net share whatever their fans; 0 if none."""
    families: list[Family] = [
        f.family
        for j, f in enumerate(net.facts)
        if j != i and f.kind in ("linear", "position embedding") and f.family and f.family.std > 0
    ]
    if len(families) < 3:
        return 0.0
    middle = sorted(f.std for f in families)[len(families) // 2]
    near = sum(abs(f.std / middle - 1) <= 6 * f.error + 0.02 for f in families)
    fans = {f.fan_in for f in net.facts if f.kind in ("linear", "position embedding")}
    return middle if near >= SHARE * len(families) and len(fans) > 1 else 0.0


def _untied(net: Examined, i: int) -> Iterator[Finding]:
    facts = net.facts[i]
    for j, head in enumerate(net.facts):
        if head.kind != "head" or head.shape != facts.shape or not head.std > 0 < facts.std:
            continue
        if abs(math.log(head.std / facts.std)) > NOTICEABLE:
            yield fault(
                net,
                [i, j],
                "warning",
                "tied_scale",
                f"the net's config ties {head.name!r} to {facts.name!r}, but they are two tensors "
                f"of std {number(head.std)} and {number(facts.std)}",
                value=head.std / facts.std,
                threshold=1.0,
                source="fastai#2090",
                cause="the head was replaced or initialised after it was tied",
                advice="tie them again",
            )
