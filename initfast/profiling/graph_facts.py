"""What the graph of a loss tells of a net's parameters, beside their gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from initfast.nets.names import NetNames
from initfast.recording.gradients import Gradients
from initfast.recording.layers import Recording
from initfast.recording.zero_gates import ZeroGates
from initfast.stats.outcome import RunOutcome


def with_graph_facts(
    outcome: RunOutcome, names: NetNames, gradients: Gradients, recording: Recording
) -> RunOutcome:
    """The outcome with the parameters that the loss does not lead to, or not yet.

    Args:
        outcome: of a run.
        names: of the net's modules.
        gradients: what measured the run's backward.
        recording: what was measured.
    """
    named = {
        id(p): f"{path}.{key}" if path else key
        for path, module in zip(names.paths(), names.modules, strict=True)
        for key, p in module._parameters.items()
        if p is not None and p.requires_grad
    }
    detached = tuple(name for i, name in named.items() if i not in gradients.reached)
    waiting: tuple[str, ...] = ()
    if _any_zero(recording):  # only then are the parameters read
        ids = ZeroGates(gradients.root).waiting()
        waiting = tuple(name for i, name in named.items() if i in ids)
    return replace(outcome, detached=detached, waiting=waiting)


def _any_zero(recording: Recording) -> bool:
    """Whether a gradient that was measured is zero all over."""
    places = [at for found, _ in recording.gradients.values() for at in found]
    rows = np.asarray(recording.copies[0])[places]
    return bool((rows[:, 0] == rows[:, 2]).any())
