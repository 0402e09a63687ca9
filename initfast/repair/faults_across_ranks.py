"""Checks of parameters across processes: replicas that differ, shards that are equal.

Each rank sends the hash of every parameter, eight bytes each, in one gather.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from initfast.collectives import gather
from initfast.diagnosis.findings import Finding
from initfast.repair.examined import Examined, fault, several
from initfast.repair.parameter_facts import Owned
from initfast.repair.parameter_kinds import plain_name

_SOURCE = "OLMo-core#319, torchtitan#166, torchtitan#3106"


class Sent(NamedTuple):
    """What a rank tells the others.

    names: a digest of the names and shapes of its parameters. hashes: one 64-bit number each.
    parts: by a parameter's place, which part of it this rank holds; without those held whole.
    """

    names: bytes
    hashes: bytes
    parts: dict[int, tuple[int, ...]]


class Rank(NamedTuple):
    """The same as it arrived."""

    names: bytes
    hashes: array[int]
    parts: dict[int, tuple[int, ...]]


def compare_ranks(net: Examined, group: Any) -> list[Finding]:
    """What is wrong with the parameters of a group's ranks as a whole. Collective.

    Args:
        net: this rank's.
        group: of torch.distributed's.
    """
    # A parameter of other shapes on each rank is a part, and says so by where it is.
    known = "\n".join(f"{plain_name(f.name)} {f.dtype}" for f in net.facts)
    own = Sent(
        hashlib.blake2b(known.encode(), digest_size=8).digest(),
        array("Q", (f.hash for f in net.facts)).tobytes(),
        {i: part for i, o in enumerate(net.owned) if (part := _part(net, i, o)) is not None},
    )
    ranks = [Rank(r.names, array("Q", r.hashes), r.parts) for r in gather(own, group)]
    return list(_judged(net, ranks))


def _part(net: Examined, i: int, one: Owned) -> tuple[int, ...] | None:
    """Where a rank's part of a parameter starts; () where only its being a part is known."""
    if net.facts[i].place is not None:
        return net.facts[i].place
    marked = getattr(one.parameter, "tensor_model_parallel", False)  # Megatron's mark
    flat = getattr(one.parameter, "_is_flat_param", False)  # FSDP1's
    return () if marked is True or flat is True else None


def _judged(net: Examined, ranks: Sequence[Rank]) -> Iterator[Finding]:
    if len({rank.names for rank in ranks}) > 1:
        different = [r for r, rank in enumerate(ranks) if rank.names != ranks[0].names]
        yield fault(
            net,
            [0, len(net.facts) - 1] if net.facts else [0],
            "error",
            "ranks_differ",
            f"rank {different[0]} has parameters of other names or dtypes than rank 0",
            value=float(len(different)),
            threshold=0.0,
            source=_SOURCE,
            advice="build the same net on every rank, or audit without group=",
        )
        return
    unequal, equal = [], []
    for i in range(len(net.facts)):
        if _replicas_differ(ranks, i):
            unequal.append(i)
        elif _is_drawn(net, i) and _shards_equal(ranks, i):
            equal.append(i)
    if unequal:
        yield _replicas(net, unequal, ranks)
    if equal:
        yield _shards(net, equal, ranks)


def _held(ranks: Sequence[Rank], i: int) -> dict[tuple[int, ...] | None, set[int]]:
    """By the part of a parameter that ranks hold, the hashes that they have of it."""
    found: dict[tuple[int, ...] | None, set[int]] = {}
    for rank in ranks:
        found.setdefault(rank.parts.get(i), set()).add(rank.hashes[i])
    return found


def _replicas_differ(ranks: Sequence[Rank], i: int) -> bool:
    return any(len(hashes) > 1 for part, hashes in _held(ranks, i).items() if part != ())


def _shards_equal(ranks: Sequence[Rank], i: int) -> bool:
    """Whether ranks that hold different parts have the same bits; an empty part has the hash 0."""
    seen: dict[int, object] = {}
    for r, rank in enumerate(ranks):
        part = rank.parts.get(i)
        own: object = r if part == () else part
        if part is not None and rank.hashes[i] and seen.setdefault(rank.hashes[i], own) != own:
            return True
    return False


def _is_drawn(net: Examined, i: int) -> bool:
    found = net.facts[i].family
    return found is not None and found.std > 0


def _replicas(net: Examined, unequal: Sequence[int], ranks: Sequence[Rank]) -> Finding:
    names = [net.facts[i].name for i in unequal]
    i = unequal[0]
    held = _held(ranks, i)
    part = next(p for p, hashes in held.items() if len(hashes) > 1 and p != ())
    same = [r for r, rank in enumerate(ranks) if rank.parts.get(i) == part]
    other = [r for r in same if ranks[r].hashes[i] != ranks[same[0]].hashes[i]]
    return fault(
        net,
        unequal,
        "error",
        "replicas_differ",
        f"{len(unequal)} of {len(net.facts)} parameters are not the same on all ranks that hold "
        f"the same part of them: {several(names)}; rank {other[0]} differs from rank {same[0]}",
        value=float(len(unequal)),
        threshold=0.0,
        source=_SOURCE,
        cause="each rank drew its own: their seeds differ, or one drew more before",
        advice="draw by one seed on every rank, or broadcast the parameters of rank 0",
    )


def _shards(net: Examined, equal: Sequence[int], ranks: Sequence[Rank]) -> Finding:
    names = [net.facts[i].name for i in equal]
    return fault(
        net,
        equal,
        "error",
        "equal_shards",
        f"{len(equal)} of {len(net.facts)} parameters have the same random bits in parts that "
        f"different ranks hold: {several(names)}",
        value=float(len(equal)),
        threshold=0.0,
        source=_SOURCE,
        cause="each rank drew its part alone, all from one seed",
        advice="draw by the place in the whole tensor, as initfast.init does",
    )
