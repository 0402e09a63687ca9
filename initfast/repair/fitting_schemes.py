"""Which schemes fit a net's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from initfast.init.placement import is_distributed
from initfast.repair.families import Family, eps_of, family
from initfast.repair.following import by_module_order, with_following
from initfast.repair.laws_of_weights import fits
from initfast.repair.parameter_facts import ParameterFacts, readable
from initfast.repair.parameter_kinds import plain_name
from initfast.repair.roles import Role
from initfast.repair.schemes import SCHEMES, DoesNotFit, Law
from initfast.repair.slots import slots
from initfast.stats.moments import Moments


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
    """A parameter beside what it was found to be; pieces: of a packed one, once they are asked."""

    kind: str
    role: Role
    tensor: Tensor
    moments: Moments
    family: Family
    pieces: dict[int, list[_Judged]] = field(default_factory=dict)


def fit(net: nn.Module, facts: Sequence[ParameterFacts]) -> Fit:
    """The schemes of initialize_ by which a net's parameters may be drawn.

    As initialize_ does without x, they take what follows a layer from the order of the modules.
    Frozen parameters, which initialize_ leaves, count only where all are frozen.

    Args:
        net: the net.
        facts: what is known of its parameters.
    """
    try:
        judged = list(_judged(net, facts))
    except (RuntimeError, ValueError, NotImplementedError, TypeError, AttributeError):
        return Fit()  # a parameter has no shape, or a module is of another make
    weights = [p.role.part == "weight" and p.role.kind != "norm" for p in judged]
    verdicts = {}
    for name, scheme in SCHEMES.items():
        try:
            verdicts[name] = [_verdict(scheme.law(p.role), p) for p in judged]
        except DoesNotFit:
            continue
    whole = []
    for name, found in verdicts.items():
        told = any(w and v is not None for w, v in zip(weights, found, strict=True))
        if told and False not in found:
            whole.append(name)
    by_kind = {}
    for kind in dict.fromkeys(p.kind for p in judged):
        of_kind = [i for i, p in enumerate(judged) if p.kind == kind]
        names = [name for name, found in verdicts.items() if all(found[i] for i in of_kind)]
        by_kind[kind] = tuple(names)
    return Fit(tuple(whole), {kind: names for kind, names in by_kind.items() if names})


def _judged(net: nn.Module, facts: Sequence[ParameterFacts]) -> Iterator[_Judged]:
    known = {plain_name(f.name): f for f in facts}
    at = [
        (known[name], slot)
        for name, slot in with_following(slots(net), by_module_order(net)).items()
        if name in known
    ]
    moving = any(f.trainable for f, _ in at)
    for f, slot in at:
        if f.family is not None and f.moments is not None and f.family.count:
            if f.trainable or not moving:
                yield _Judged(f.kind, slot.role, slot.tensor, f.moments, f.family)


def _verdict(law: Law | None, p: _Judged) -> bool | None:
    """Whether a parameter is as a scheme has it; None where the scheme says nothing of it."""
    if law is None:
        return None
    if law.family not in ("packed", "orthogonal"):
        return fits(law, p.family)
    if is_distributed(p.tensor):  # what is here is a part of no one of them
        return None
    if law.family == "packed":
        pieces = _pieces(p, len(law.parts))
        return all(_verdict(*pair) for pair in zip(law.parts, pieces, strict=True))
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
