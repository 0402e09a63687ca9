"""A check of heads that are, or should be, one tensor with an embedding."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from initfast.diagnosis.findings import Finding
from initfast.repair.examined import Examined, fault, several
from initfast.repair.faults_of_scale import NOTICEABLE
from initfast.repair.laws_of_weights import FIXED, Initialiser, as_found, fits, initialisers
from initfast.repair.siblings import SHARE
from initfast.stats.families import Family
from initfast.stats.text import number


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
    calls = [c.call for c in initialisers((width, rows)) if _is_heads(c) and fits(c.law, found)]
    shared = _shared_std(net, i)
    tables = (*FIXED, 1 / math.sqrt(width))  # what embeddings are drawn at
    if calls and not any(fits(as_found(found, std), found) for std in tables):
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
