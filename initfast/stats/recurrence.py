"""Recurrence: what happens from step to step inside one direction of a recurrent layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Gate(NamedTuple):
    """A gate, or the tanh beside the gates, over all steps, sequences and units.

    Attributes:
        mean: of its values, from 0 to 1; of a tanh from -1 to 1.
        saturated: the share of values outside 0.015 to 0.985, of a tanh beyond ±0.97.
    """

    mean: float
    saturated: float


@dataclass(frozen=True)
class Recurrence:
    """One layer of an RNN, LSTM or GRU in one direction, run step by step.

    Attributes:
        state: the rms of the state after each step, in the order of the steps.
        gradient: for each step, the rms of what a random gradient at the last state is at the state
            after this one (of an LSTM, at both its states together), over that at the last: 1 at
            the last step. It is the norm of the Jacobian, up to chance (Pascanu, Mikolov & Bengio
            2013).
        gates: by name: "input", "forget", "cell" and "output" of an LSTM; "reset", "update" and
            "new" of a GRU; none of an RNN with ReLU, "state" of one with tanh.
        spectral_radius: the largest magnitude among the eigenvalues of the recurrent weight; of an
            LSTM or GRU, that of the gate where it is largest.
        sequences: how many there were.

    Example:
        >>> a = Recurrence((1.0, 1.0), (0.3, 1.0), {"state": Gate(0.0, 0.0)}, 1.0, 1)
        >>> b = Recurrence((1.0, 1.0), (0.4, 1.0), {"state": Gate(0.0, 0.5)}, 1.0, 1)
        >>> a.merge(b).gates["state"].saturated
        0.25
    """

    state: Sequence[float]
    gradient: Sequence[float]
    gates: Mapping[str, Gate] = field(default_factory=dict)
    spectral_radius: float = math.nan
    sequences: int = 0

    @property
    def steps(self) -> int:
        """How many there were."""
        return len(self.state)

    @property
    def first_gradient(self) -> float:
        """What is left of a gradient after its way from the last step to the first."""
        return self.gradient[0] if self.gradient else math.nan

    def merge(self, other: Recurrence) -> Recurrence:
        """Of the sequences of both; of those with the most steps where they differ.

        The weight is the other's, as it is the later one.
        """
        if self.steps != other.steps:
            return max(self, other, key=lambda x: x.steps)
        total = self.sequences + other.sequences
        own, others = self.sequences / (total or 1), other.sequences / (total or 1)

        def rms(a: Sequence[float], b: Sequence[float]) -> tuple[float, ...]:
            scaled = zip(a, b, strict=True)  # the squares of what is small would be zero
            return tuple(math.hypot(x * own**0.5, y * others**0.5) for x, y in scaled)

        gates = {
            name: Gate(
                *(own * x + others * y for x, y in zip(gate, other.gates[name], strict=True))
            )
            for name, gate in self.gates.items()
            if name in other.gates
        }
        state, gradient = rms(self.state, other.state), rms(self.gradient, other.gradient)
        return Recurrence(state, gradient, gates, other.spectral_radius, total)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recurrence:
        """The recurrence that was made plain, directly or through JSON."""
        return cls(
            tuple(map(float, data["state"])),
            tuple(map(float, data["gradient"])),
            {name: Gate(*map(float, gate)) for name, gate in data["gates"].items()},
            float(data["spectral_radius"]),
            int(data["sequences"]),
        )
