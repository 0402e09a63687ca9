"""RunOutcome: what a run came to beside its layers: its loss, and where its NaN begin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from initfast.stats.nonfinite_source import NonfiniteSource


class Update(NamedTuple):
    """What an optimiser's step has done to a parameter.

    Attributes:
        to_weight: the rms of the change over that of the parameter before; about 1e-3 where
            training goes well (Karpathy 2022, makemore). Infinite where all of it was zero.
        gradient: the rms of the gradient that the step took.
    """

    to_weight: float
    gradient: float


class CrossEntropy(NamedTuple):
    """One cross-entropy of classes that a loss has computed: a mean without class weights.

    Attributes:
        classes: how many there are; the same logit for each gives ln(classes).
        value: what it came to.
    """

    classes: int
    value: float


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to.

    Attributes:
        losses: the loss, one for each batch or rank that was merged; () without a loss.
        cross_entropies: those that the loss has computed.
        source: where the first non-finite values begin that do harm; None where there are none,
            or nobody looked.
        updates: those of the last optimiser step that was measured, by the parameters' names.
        detached: the parameters that require a gradient and that no graph leads to from the loss.
        waiting: those whose gradient is zero as long as a parameter that they are multiplied by is.
        diverged: whether earlier calls of training were finite, and numbers and parameters grew.
    """

    losses: tuple[float, ...] = ()
    cross_entropies: tuple[CrossEntropy, ...] = ()
    source: NonfiniteSource | None = None
    updates: Mapping[str, Update] = field(default_factory=dict)
    detached: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    diverged: bool = False

    @property
    def loss(self) -> float | None:
        """The mean of the losses; None without any."""
        return sum(self.losses) / len(self.losses) if self.losses else None

    @property
    def is_finite(self) -> bool:
        """Whether no loss is NaN or infinite."""
        return all(map(math.isfinite, self.losses))

    def merge(self, other: RunOutcome) -> RunOutcome:
        """The facts of both runs, of one net."""
        return RunOutcome(
            self.losses + other.losses,
            self.cross_entropies + other.cross_entropies,
            self.source or other.source,
            {**self.updates, **other.updates},
            tuple(dict.fromkeys(self.detached + other.detached)),
            tuple(dict.fromkeys(self.waiting + other.waiting)),
            self.diverged or other.diverged,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunOutcome:
        """The facts whose attributes were made plain, directly or through JSON."""
        source = data.get("source")
        return cls(
            tuple(map(float, data.get("losses", ()))),
            tuple(CrossEntropy(n, float(x)) for n, x in data.get("cross_entropies", ())),
            None if source is None else NonfiniteSource.from_dict(source),
            {name: Update(*map(float, u)) for name, u in data.get("updates", {}).items()},
            tuple(data.get("detached", ())),
            tuple(data.get("waiting", ())),
            bool(data.get("diverged", False)),
        )


NO_OUTCOME = RunOutcome()
