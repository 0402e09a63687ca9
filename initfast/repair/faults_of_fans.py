"""A check of fused, grouped and transposed weights: the fans by which they were drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from torch import nn

from initfast.diagnosis.findings import Finding, Severity
from initfast.repair.examined import Examined, fault, several
from initfast.repair.laws_of_weights import fits, initialisers
from initfast.repair.parameter_facts import ParameterFacts
from initfast.repair.parameter_kinds import (
    DENSE,
    torch_fans,
)
from initfast.stats.text import number


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
        std = next(c.law.scale for c in initialisers(fans) if c.call == call)
        found.setdefault((what, call), []).append((i, std))
    for (what, call), wrong in found.items():
        like = followers[_is_conv(net.facts[wrong[0][0]])]
        names = [name for name, calls in like.items() if call in calls]
        yield _wrong(net, wrong, f"{what} and drawn by {call} as its shape", names)


def _calls(facts: ParameterFacts, fans: tuple[int, int]) -> list[str]:
    """The initialisers, taking these fans, that a weight may be drawn by."""
    return [c.call for c in initialisers(fans) if facts.family and fits(c.law, facts.family)]


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
