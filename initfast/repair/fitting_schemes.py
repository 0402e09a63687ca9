"""Which schemes fit a net's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from initfast.diagnosis.advice import Act
from initfast.init.placement import is_distributed
from initfast.ops.activations import ACTIVATIONS
from initfast.repair.blocks import blocks_of
from initfast.repair.following import by_module_order, with_following
from initfast.repair.laws_of_weights import fits
from initfast.repair.parameter_facts import ParameterFacts, readable
from initfast.repair.parameter_kinds import plain_name
from initfast.repair.roles import Role
from initfast.repair.schemes import SCHEMES, DoesNotFit, Law, Scheme
from initfast.repair.sines import OMEGA
from initfast.repair.slots import Slot, slots, with_net
from initfast.stats.families import Family, eps_of, family
from initfast.stats.moments import Moments

_ACTIVATIONS = tuple(map(Act.named, ACTIVATIONS))
"""Those that may follow where no module shows it."""


@dataclass(frozen=True)
class Fit:
    """Which schemes fit a net.

    Attributes:
        whole: those that fit every parameter of which they say something, one weight at least.
        by_kind: for each kind of parameter those that fit all of that kind.
    """

    whole: tuple[str, ...] = ()
    by_kind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Judged:
    """A parameter beside what it was found to be.

    pieces: of a packed one, once they are asked. known: which laws it fits, as far as was asked.
    """

    kind: str
    role: Role
    tensor: Tensor
    moments: Moments
    family: Family
    pieces: dict[int, list[_Judged]] = field(default_factory=dict)
    known: dict[tuple[str, float, float], bool] = field(default_factory=dict)


def fit(net: nn.Module, facts: Sequence[ParameterFacts]) -> Fit:
    """The schemes of initialize_ by which a net's parameters may be drawn.

    As initialize_ does without x, they take what follows a layer from the order of the modules.
    Frozen parameters, which initialize_ leaves, count only where all are frozen.

    Args:
        net: the net.
        facts: what is known of its parameters.
    """
    try:
        found = with_following(slots(net), by_module_order(net))
        judged = list(_judged(found, facts))
        others = [list(_judged(other, facts)) for other in _as_a_run_may_show(net, found)]
    except (RuntimeError, ValueError, NotImplementedError, TypeError, AttributeError):
        return Fit()  # a parameter has no shape, or a module is of another make
    verdicts = {}
    for name, scheme in SCHEMES.items():
        try:
            verdicts[name] = _verdicts(scheme, judged)
        except DoesNotFit:
            continue
    whole = [
        name
        for name in SCHEMES
        if _is_whole(judged, verdicts.get(name, [False]))
        or any(_fits(SCHEMES[name], o) for o in others)
    ]
    by_kind = {}
    for kind in dict.fromkeys(p.kind for p in judged):
        of_kind = [i for i, p in enumerate(judged) if p.kind == kind]
        names = [name for name, found in verdicts.items() if all(found[i] for i in of_kind)]
        by_kind[kind] = tuple(names)
    return Fit(tuple(whole), {kind: names for kind, names in by_kind.items() if names})


def _verdicts(scheme: Scheme, judged: Sequence[_Judged]) -> list[bool | None]:
    found: list[bool | None] = []
    for p in judged:
        found.append(_verdict(scheme, p, seen_all=False in found))
    return found


def _is_whole(judged: Sequence[_Judged], verdicts: Iterable[bool | None]) -> bool:
    """Whether none departs, and a weight is among those of which the scheme says something."""
    told = False
    for p, verdict in zip(judged, verdicts, strict=False):
        if verdict is False:
            return False
        told = told or (verdict is not None and _is_weight(p.role))
    return told


def _is_weight(role: Role) -> bool:
    return role.part == "weight" and role.kind != "norm"


def _fits(scheme: Scheme, judged: Sequence[_Judged]) -> bool:
    try:
        return _is_whole(judged, (_verdict(scheme, p) for p in judged))
    except DoesNotFit:
        return False


def _as_a_run_may_show(net: nn.Module, found: dict[str, Slot]) -> Iterator[dict[str, Slot]]:
    """What a run may show that the order of modules does not: residual sums, and sines.

    initialize_ with x goes by these. The last layer of each block may end a residual branch; and
    sines may follow the layers of a net that has only linear ones.
    """
    lasts = {}
    for path, block in blocks_of(net).items():
        name = plain_name(f"{path}.weight")
        if name in found and found[name].role.kind in ("linear", "conv"):
            lasts[block.path] = name
    ends = {name for name in lasts.values() if not found[name].role.ends_branch}
    if ends:
        yield with_net(
            {
                name: slot._replace(role=replace(slot.role, ends_branch=True))
                if name in ends
                else slot
                for name, slot in found.items()
            }
        )
    if all(slot.role.kind == "linear" and slot.role.follows is None for slot in found.values()):
        yield with_net(
            {
                name: slot._replace(role=replace(slot.role, sine=OMEGA))
                if slot.role.next != "end"
                else slot
                for name, slot in found.items()
            }
        )


def _judged(found: Mapping[str, Slot], facts: Sequence[ParameterFacts]) -> Iterator[_Judged]:
    known = {plain_name(f.name): f for f in facts}
    at = [(known[name], slot) for name, slot in found.items() if name in known]
    moving = any(f.trainable for f, _ in at)
    for f, slot in at:
        if f.family is not None and f.moments is not None and f.family.count:
            if f.trainable or not moving:
                yield _Judged(f.kind, slot.role, slot.tensor, f.moments, f.family)


def _verdict(scheme: Scheme, p: _Judged, seen_all: bool = False) -> bool | None:
    """Whether a parameter is as a scheme has it; None where the scheme says nothing of it.

    "auto" goes by the activation, and that may be a function, which no module shows; seen_all: as
    if there were none such.
    """
    law = scheme.law(p.role)
    verdict = _is_of(law, p)
    may_be_function = scheme is SCHEMES["auto"] and p.role.next in ("layer", "end")
    if verdict is not False or seen_all or not may_be_function:
        return verdict
    seen = [replace(p.role, next="activation", follows=act) for act in _ACTIVATIONS]
    return any(_is_of(other, p) for other in map(scheme.law, seen) if other != law)


def _is_of(law: Law | None, p: _Judged) -> bool | None:
    if law is None:
        return None
    if law.family not in ("packed", "orthogonal"):
        key = law.family, law.scale, law.cut
        if key not in p.known:
            p.known[key] = fits(law, p.family)
        return p.known[key]
    if is_distributed(p.tensor):  # what is here is a part of no one of them
        return None
    if law.family == "packed":
        pieces = _pieces(p, len(law.parts))
        return all(_is_of(*pair) for pair in zip(law.parts, pieces, strict=True))
    rows, *others = p.tensor.shape
    rms = law.std(rows, math.prod(others))  # of an orthogonal matrix it is no matter of chance
    return math.isclose(p.moments.rms, rms, rel_tol=1e-5 + eps_of(p.tensor.dtype))


def _pieces(p: _Judged, count: int) -> list[_Judged]:
    """The weights that are packed in a parameter."""
    if count not in p.pieces:
        p.pieces[count] = []
        for piece in p.tensor.detach().chunk(count, -1 if p.role.inputs_first else 0):
            values, _ = readable(piece)
            m = Moments.of(torch.empty(0) if values is None else values)
            found = family(m, eps_of(piece.dtype))
            p.pieces[count].append(_Judged(p.kind, p.role, piece, m, found))
    return p.pieces[count]
