"""The net as the checks see it: its layers, how they follow one another, and the thresholds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from initfast.diagnosis import advice, topology
from initfast.diagnosis.advice import Act, activation_of
from initfast.diagnosis.findings import Finding, Severity, SkippedCheck
from initfast.diagnosis.initialisers import initialiser_of
from initfast.diagnosis.masks import harmless
from initfast.diagnosis.trends import LEAST_POINTS
from initfast.ops.activations import ACTIVATIONS
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


class Net:
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
        self.outcome = outcome
        self.root = root
        self.layers = layers
        self.inputs = inputs
        self.limits = limits

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
    def runs(self) -> list[list[int]]:
        """Runs of linear layers or convolutions, each with its activation, and nothing between."""
        found: list[list[int]] = []
        for chain in topology.chains(self.sound):
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
    def normed(self) -> set[int]:
        """Linear layers and convolutions whose output goes into a norm, which rescales it."""
        takes = zip(topology.parents(self.layers), self.layers, strict=True)
        into_norms = {before for before, x in takes if before is not None and "Norm" in x.op}
        return {i for i in into_norms if dense(self.layers[i])}

    @cached_property
    def untaken(self) -> set[int]:
        """The layers whose output no other takes as it is: heads, gates."""
        return set(range(len(self.layers))) - set(topology.parents(self.layers))

    def is_prior(self, i: int) -> bool:
        """Whether layer i is a head or a gate that its bias holds at one value.

        As a detector's classes start at a probability of 0.01 (Lin et al. 2017), a gate closed.
        """
        layer = self.layers[i]
        z = layer.pre or layer.post
        act = advice.activation_in(layer.op)
        far = abs(z.mean) > self.limits["mean_drift"] * z.std
        return act in (None, "sigmoid") and i in self.untaken and far and z.std <= 1

    @cached_property
    def sequences(self) -> list[list[int]]:
        """The layers along which a trend is looked for: the runs, and the layers of each role.

        Before a norm the scale, of signal and gradient, is each weight's own and passed on to none.
        """
        roles = [[i for i in role if i not in self.normed] for role in topology.roles(self.sound)]
        return self.runs + [role for role in roles if len(role) >= LEAST_POINTS]

    @cached_property
    def blocks(self) -> dict[int, int]:
        """How many layers play the role of each."""
        return {i: len(role) for role in topology.roles(self.layers) for i in role}

    @cached_property
    def idle_norm(self) -> int | None:
        """The first batch norm that passes its input on: running statistics never updated."""
        for i, layer in enumerate(self.layers):
            before, after = layer.input, layer.pre or layer.post
            if "BatchNorm" not in layer.op or before is None or not before.std > 0:
                continue
            if abs(after.std / before.std - 1) < 1e-3 and abs(before.std - 1) > 0.05:
                return i
        return None

    def activation(self, i: int) -> Act | None:
        """The activation that layer i ends in, or that takes its output next."""
        act = activation_of(self.layers[i])
        if act is not None or i + 1 >= len(self.layers):
            return act
        after = self.layers[i + 1]
        if after.input is None or after.op not in ACTIVATIONS:
            return None
        follows = topology.fingerprint(after.input) == topology.fingerprint(self.layers[i].post)
        return activation_of(after) if follows else None

    def initialiser(self, i: int) -> str | None:
        """What layer i's weight was filled by, in words; None where nothing fits."""
        act, blocks = self.activation(i), self.blocks.get(i, 1)
        return initialiser_of(self.layers[i], act, blocks, self.limits["initialiser"])

    def refill(self, first: int, last: int, act: Act | None, std: float = 1.0) -> str:
        """Code that fills the weights of the linear layers and convolutions first to last anew.

        Empty where it would do nothing: the weight of one of them is computed, or no part of the
        net by its name. Where the pre-activations are to have another std than 1, the first layer
        gives it to them.
        """
        weighted = [x for x in self.layers[first : last + 1] if x.weight is not None]
        filled = [x for x in weighted if dense(x)]
        if not (self.root and filled) or not all(x.parameter for x in filled):
            return ""
        others = sorted({x.op for x in weighted} - {x.op for x in filled})
        known = f" and layer.op not in {tuple(others)}" if others else ""
        by_fan = not all(re.match(r"(?i:linear\b)|Conv\dd", x.op) for x in filled)
        code = (
            f"for layer in report.layers[{first}:{last + 1}]:\n"
            f"    if layer.weight{known}:\n"
            f"        w = {self.root}.get_parameter(layer.parameter)\n"
            f"        {advice.call(act, by_fan, std)}"
        )
        if std == 1:
            return code
        return (
            f"{code}\n"
            f"layer = report.layers[{first}]\n"
            f"std = {std:g} / (layer.input.rms * layer.weight.fan_in**0.5)\n"
            f"initfast.init.normal_({self.root}.get_parameter(layer.parameter), 0.0, std)"
        )

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


def nonfinite(layer: Layer) -> float:
    """The share of NaN and infinity in its output, or before its activation if that is more."""
    found = [layer.post] if layer.pre is None else [layer.post, layer.pre]
    return max(m.nonfinite_share for m in found)


def dense(layer: Layer) -> bool:
    """Whether a layer is a linear layer or a convolution whose weight is known."""
    return layer.weight is not None and layer.op.lower().startswith(("linear", "conv"))


def units_of(layer: Layer) -> int:
    """How many units a layer has: channels of a convolution, else entries of the last dimension."""
    spatial = re.match(r"Conv(?:Transpose)?(\d)d", layer.op)
    at = -1 - (int(spatial[1]) if spatial else 0)
    return layer.units or (layer.shape[at] if len(layer.shape) >= -at else 1)


def is_constant(layer: Layer) -> bool:
    """Whether all weights of a layer are one number."""
    weight = layer.weight
    return weight is not None and weight.moments.count > 1 and weight.moments.m2 == 0


def spans(indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and last of each group of neighbouring places, at most two apart."""
    first = last = -9
    for i in sorted(indices):
        if i - last > 2:
            if first >= 0:
                yield first, last
            first = i
        last = i
    if first >= 0:
        yield first, last


def largest(m: Moments) -> float:
    """The largest finite magnitude; 0 where there is none."""
    return max(abs(m.min), abs(m.max)) if m.finite else 0.0
