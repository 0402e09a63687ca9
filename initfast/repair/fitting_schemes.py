"""Which schemes fit a net's parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from initfast.repair.laws_of_weights import Place, Rule, Scheme
from initfast.repair.parameter_kinds import DENSE


@dataclass(frozen=True)
class Fit:
    """Which schemes fit a net.

    Attributes:
        whole: those that fit every parameter of which they say something, and most weights.
        by_kind: for each kind of parameter those that fit all of that kind.
    """

    whole: tuple[str, ...]
    by_kind: Mapping[str, tuple[str, ...]]


def fit(at: Sequence[Place], schemes: Mapping[str, Scheme]) -> Fit:
    """The schemes that a net's parameters may be drawn by.

    Args:
        at: the parameters in their places.
        schemes: by name, what each gives a parameter.
    """
    at = [p for p in at if p.facts.family is not None and p.facts.family.count]
    weights = sum(p.facts.kind in DENSE for p in at)
    kinds = {p.facts.kind for p in at}
    schemes = {name: s for name, s in schemes.items() if not s.needs or s.needs in kinds}
    whole, by_kind = [], {}
    verdicts = {name: [_verdict(scheme.rule, p) for p in at] for name, scheme in schemes.items()}
    for name, found in verdicts.items():
        told = sum(v is not None and p.facts.kind in DENSE for v, p in zip(found, at, strict=True))
        if told and 2 * told >= weights and False not in found:
            whole.append(name)
    for kind in dict.fromkeys(p.facts.kind for p in at):
        of_kind = [i for i, p in enumerate(at) if p.facts.kind == kind]
        by_kind[kind] = tuple(
            name for name, found in verdicts.items() if all(found[i] for i in of_kind)
        )
    return Fit(tuple(whole), {kind: names for kind, names in by_kind.items() if names})


def _verdict(rule: Rule, p: Place) -> bool | None:
    """Whether a parameter is as a scheme has it; None where the scheme says nothing of it."""
    expected = rule(p)
    found = p.facts.family
    return None if expected is None or found is None else expected.fits(found)
