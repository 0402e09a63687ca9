"""A net as the checks of its parameters see it, and how they say what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from initfast.diagnosis.findings import Finding, Severity
from initfast.repair.laws_of_weights import Location
from initfast.repair.parameter_facts import Owned, ParameterFacts, readable


@dataclass(frozen=True)
class Examined:
    """A net's parameters.

    Attributes:
        owned: the parameters and their modules, each once.
        facts: what is known of them, in the same order.
        locations: where they stand in the net, likewise.
        ties: whether the net says that its head is its embedding.
        modules: the net's, by their paths.
    """

    owned: Sequence[Owned]
    facts: Sequence[ParameterFacts]
    locations: Sequence[Location]
    ties: bool = False
    modules: Mapping[str, nn.Module] = field(default_factory=dict)

    def values(self, i: int) -> Tensor:
        """The values of a parameter that has some, units first."""
        values, _ = readable(self.owned[i].parameter.detach())
        return torch.empty(0) if values is None else values


Check = Callable[[Examined], Iterator[Finding]]


def fault(
    net: Examined,
    indices: Sequence[int],
    severity: Severity,
    rule: str,
    measured: str,
    *,
    value: float,
    threshold: float,
    source: str,
    cause: str = "",
    advice: str = "",
    code: str = "",
) -> Finding:
    """A finding about some parameters.

    Args:
        net: whose they are.
        indices: their places in ``net.facts``.
        severity, rule, measured, value, threshold, source, cause, advice, code: as in Finding.
    """
    first, last = min(indices), max(indices)
    return Finding(
        rule=rule,
        severity=severity,
        first=first,
        last=last,
        names=(net.facts[first].name, net.facts[last].name),
        measured=measured,
        value=value,
        threshold=threshold,
        source=source,
        cause=cause,
        advice=advice,
        code=code,
        counted="parameter",
    )


def several(names: Sequence[str], most: int = 3) -> str:
    """Some names in words, the first ones spelled out.

    Example:
        >>> several(["a", "b", "c", "d", "e"])
        "'a', 'b', 'c' and 2 more"
    """
    shown = ", ".join(map(repr, names[:most]))
    rest = len(names) - most
    return f"{shown} and {rest} more" if rest > 0 else shown
