"""The net as the checks see it: its layers, how they follow one another, and the thresholds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from initfast.diagnosis import norms, topology
from initfast.diagnosis.advice import activation_in
from initfast.diagnosis.facts import dense, is_constant, is_passage, nonfinite
from initfast.diagnosis.findings import Finding, Severity, SkippedCheck
from initfast.diagnosis.initialisers import initialiser_of
from initfast.diagnosis.masks import harmless
from initfast.diagnosis.refills import Refills
from initfast.diagnosis.slopes import log_slopes
from initfast.diagnosis.trends import LEAST_POINTS
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.outcome import NO_OUTCOME, RunOutcome
from initfast.thresholds import THRESHOLDS

Outcome = Iterator[Finding | SkippedCheck]

DEVIATIONS = 3.0
"""How many standard deviations a number must lie beyond what chance explains."""


class Rule(NamedTuple):
    """A check: what it looks for, and the function that looks."""

    what: str
    check: Callable[[Net], Outcome]


class Net(Refills):
    """A report's layers, with what several checks need to know of them.

    Args:
        layers: in execution order.
        inputs: the moments of the net's own inputs.
        limits: a value for each name in :data:`initfast.thresholds.THRESHOLDS`.
        root: what the layers' names are paths in, as code; "" where there is nothing that has them.
        outcome: what the run came to beside them.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        inputs: Sequence[Moments],
        limits: Mapping[str, float],
        root: str = "net",
        outcome: RunOutcome = NO_OUTCOME,
    ) -> None:
        super().__init__(layers, root)
        self.outcome = outcome
        self.inputs = inputs
        self.limits = limits

    @cached_property
    def reference(self) -> float:
        """The root mean square of the net's input; of its first layer's output where it has ids."""
        given = [m.rms for m in self.inputs if m.finite and m.rms > 0]
        return max(given or [x.rms for x in self.layers[:1]], default=0.0)

    @cached_property
    def masks(self) -> set[int]:
        """The layers whose non-finite values are a mask's, or NaN that no layer passes on."""
        return harmless(self.layers, self.inputs)

    @cached_property
    def first_nonfinite(self) -> int | None:
        """The place of the first layer with a NaN or an infinity that is no mask's."""
        most = self.limits["nonfinite"]
        bad = (i for i, x in enumerate(self.layers) if x.has_nonfinite and nonfinite(x) > most)
        return next((i for i in bad if i not in self.masks), None)

    def log_limit(self, name: str) -> float:
        """The logarithm of a threshold; minus infinity where it is zero."""
        limit = self.limits[name]
        return math.log(limit) if limit > 0 else -math.inf

    @property
    def unsound(self) -> str | None:
        """Why layers are left out of what needs finite values; None where none are."""
        i, n = self.first_nonfinite, len(self.layers)
        if i is None:
            return None
        which = f"layer {i} is" if i == n - 1 else f"layers {i} to {n - 1} are"
        return f"{which} not judged: from layer {i} on values are not finite"

    @cached_property
    def sound(self) -> Sequence[Layer]:
        """The layers before the first non-finite value: behind it, scales mean nothing."""
        return self.layers[: self.first_nonfinite]

    @cached_property
    def parents(self) -> list[int | None]:
        """For each layer the one whose output it takes; None where it takes none's as it is."""
        return topology.parents(self.layers)

    @cached_property
    def _chains(self) -> list[list[int]]:
        return topology.chains(self.parents[: self.first_nonfinite])

    @cached_property
    def runs(self) -> list[list[int]]:
        """Runs of linear layers or convolutions, each with its activation, and nothing between."""
        found: list[list[int]] = []
        for chain in self._chains:
            run: list[int] = []
            for i in chain:
                layer = self.sound[i]
                if dense(layer) and not is_constant(layer):
                    run.append(i)
                    continue
                found.append(run)
                run = []
            found.append(run)
        return [run for run in found if len(run) >= LEAST_POINTS]

    @cached_property
    def passages(self) -> list[list[int]]:
        """Runs as in :attr:`runs`, which other functions of one tensor between do not end.

        A norm does: it may give the differences back.
        """
        found: list[list[int]] = []
        for chain in self._chains:
            run: list[int] = []
            for i in chain:
                layer = self.sound[i]
                if is_constant(layer) or norms.is_norm(layer) or not layer.post.std > 0:
                    found.append(run)
                    run = []
                elif dense(layer) or is_passage(layer):
                    run.append(i)
                else:
                    found.append(run)
                    run = []
            found.append(run)
        return [r for r in found if sum(dense(self.layers[i]) for i in r) >= LEAST_POINTS]

    @cached_property
    def log_slopes(self) -> list[float]:
        """What each sound layer does to the square of a difference between two inputs, in logs."""
        return log_slopes(self.sound)

    @cached_property
    def normed(self) -> set[int]:
        """Linear layers and convolutions whose output goes into a norm, which rescales it."""
        return {i for i in norms.fed(self.layers, self.parents) if dense(self.layers[i])}

    @cached_property
    def rescaled(self) -> set[int]:
        """Linear layers whose module multiplies the product by a number before it returns it."""
        found = set()
        for i, (x, after) in enumerate(itertools.pairwise(self.layers)):
            is_inner = dense(x) and not x.is_output and x.name == after.name and after.is_output
            if is_inner and not 0.8 < after.std / max(x.std, 1e-300) < 1.25:
                found.add(i)
        return found

    @cached_property
    def untaken(self) -> set[int]:
        """The layers whose output no other takes as it is: heads, gates."""
        return set(range(len(self.layers))) - set(self.parents)

    @cached_property
    def after_constant(self) -> set[int]:
        """The layers that take what a layer of constant output has made, or follow such."""
        return topology.after_constant(self.layers, self.parents)

    def is_prior(self, i: int) -> bool:
        """Whether layer i is a head or a gate that its bias holds at one value.

        As a detector's classes start at a probability of 0.01 (Lin et al. 2017), a gate closed.
        """
        layer = self.layers[i]
        z = layer.pre or layer.post
        act = activation_in(layer.op)
        far = abs(z.mean) > self.limits["mean_drift"] * z.std
        return act in (None, "sigmoid") and i in self.untaken and far and z.std <= 1

    @cached_property
    def sequences(self) -> list[list[int]]:
        """The layers along which a trend is looked for: the runs, and the layers of each role.

        Before a norm the scale, of signal and gradient, is each weight's own and passed on to none.
        """
        sound = self._roles if self.first_nonfinite is None else topology.roles(self.sound)
        roles = [[i for i in role if i not in self.normed] for role in sound]
        return self.runs + [role for role in roles if len(role) >= LEAST_POINTS]

    @cached_property
    def _roles(self) -> list[list[int]]:
        return topology.roles(self.layers)

    @cached_property
    def blocks(self) -> dict[int, int]:
        """How many layers play the role of each."""
        return {i: len(role) for role in self._roles for i in role}

    @cached_property
    def idle_norm(self) -> int | None:
        """The first batch norm that passes its input on: running statistics never updated."""
        return norms.idle(self.layers)

    def idle(self, rule: str) -> SkippedCheck:
        """That a check of the scale was not made, for the sake of :attr:`idle_norm`."""
        i = self.idle_norm or 0
        return SkippedCheck(
            rule,
            f"layer {i} ({self.layers[i].name!r}) is a batch norm in evaluation mode that has seen "
            "no data and passes its input on: profile the net after net.train()",
        )

    def initialiser(self, i: int) -> str | None:
        """What layer i's weight was filled by, in words; None where nothing fits."""
        act, blocks = self.activation(i), self.blocks.get(i, 1)
        return initialiser_of(self.layers[i], act, blocks, self.limits["initialiser"])

    def finding(
        self,
        rule: str,
        severity: Severity,
        span: tuple[int, int],
        threshold: str,
        value: float,
        measured: str,
        cause: str = "",
        advice: str = "",
        code: str = "",
    ) -> Finding:
        """A finding on the layers from span[0] to span[1], both included."""
        first, last = span
        return Finding(
            rule=rule,
            severity=severity,
            first=first,
            last=last,
            names=(self.layers[first].name, self.layers[last].name),
            measured=measured,
            value=value,
            threshold=self.limits[threshold],
            source=THRESHOLDS[threshold].source,
            cause=cause,
            advice=advice,
            code=code,
        )
