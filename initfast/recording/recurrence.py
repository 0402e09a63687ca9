"""Recurrent layers run step by step, in float64, beside torch's own fused run.

Torch runs all steps of an RNN, LSTM or GRU in one function that shows none of them. Here the same
equations run once more on the same input, one layer and direction after the other, without dropout
between layers; then a random gradient at the last state goes back through the steps. It is scaled
to 1 after each, so that it neither overflows nor is lost, and its logarithm kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from initfast.ops.activations import ACTIVATIONS
from initfast.stats.recurrence import Gate, Recurrence

States = tuple[Tensor, ...]
Step = Callable[["Weights", Tensor, States], tuple[States, dict[str, Tensor]]]

_SEED = 0x1F
"""The random gradient is the same in every run, and torch's own random state untouched."""


class Weights(NamedTuple):
    """Those of one layer in one direction; biases of zero where there are none."""

    within: Tensor
    across: Tensor
    bias: Tensor
    bias_across: Tensor
    projection: Tensor | None


def _rnn(function: Callable[[Tensor], Tensor]) -> Step:
    def step(w: Weights, x: Tensor, states: States) -> tuple[States, dict[str, Tensor]]:
        state = function(x + states[0] @ w.across.T + w.bias_across)
        return (state,), {} if function is torch.relu else {"state": state}

    return step


def _lstm(w: Weights, x: Tensor, states: States) -> tuple[States, dict[str, Tensor]]:
    hidden, cell = states
    i, f, g, o = (x + hidden @ w.across.T + w.bias_across).chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cell = f * cell + i * g
    hidden = o * cell.tanh()
    if w.projection is not None:
        hidden = hidden @ w.projection.T
    return (hidden, cell), {"input": i, "forget": f, "cell": g, "output": o}


def _gru(w: Weights, x: Tensor, states: States) -> tuple[States, dict[str, Tensor]]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (
        t.chunk(3, -1) for t in (x, states[0] @ w.across.T + w.bias_across)
    )
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    n = (x_n + r * h_n).tanh()
    return ((1 - z) * n + z * states[0],), {"reset": r, "update": z, "new": n}


STEPS: Mapping[str, tuple[Step, int]] = {
    "rnn_tanh": (_rnn(torch.tanh), 1),
    "rnn_relu": (_rnn(torch.relu), 1),
    "lstm": (_lstm, 4),
    "gru": (_gru, 3),
}
"""By the names of torch's functions, their equations and how many gates a weight holds."""

_TANHS = frozenset(("state", "cell", "new"))
"""What is a tanh; the other gates are sigmoids."""


def of_call(
    name: str,
    x: Tensor,
    states: States,
    flat: Sequence[Tensor],
    has_biases: bool,
    directions: int,
) -> dict[str, Recurrence]:
    """Run what a recurrent module runs, step by step.

    Args:
        name: of torch's function.
        x: the input [steps, sequences, features].
        states: the first states, each [layers · directions, sequences, units].
        flat: the weights, as torch's modules keep them in `_flat_weights`.
        has_biases: whether there are two biases for each layer and direction.
        directions: 1, or 2 of a bidirectional module.

    Returns:
        By the suffix of the parameters' names: "l0", "l0_reverse", "l1", ...
    """
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    x, states = x.to(wide), tuple(s.to(wide) for s in states)
    each, found = len(flat) // len(states[0]), {}
    for layer in range(len(states[0]) // directions):
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            weights = _weights([w.to(wide) for w in flat[at * each : (at + 1) * each]], has_biases)
            first = tuple(s[at] for s in states)
            given = x.flip(0) if direction else x
            key = f"l{layer}{'_reverse' if direction else ''}"
            output, found[key] = _run(*STEPS[name], weights, given, first)
            outputs.append(output.flip(0) if direction else output)
        x = torch.cat(outputs, -1)
    return found


def _weights(flat: Sequence[Tensor], has_biases: bool) -> Weights:
    within, across = flat[:2]
    zero = within.new_zeros(len(within))
    bias, bias_across = flat[2:4] if has_biases else (zero, zero)
    projection = flat[-1] if len(flat) in (3, 5) else None
    return Weights(within, across, bias, bias_across, projection)


def _run(
    step: Step, gates: int, w: Weights, x: Tensor, states: States
) -> tuple[Tensor, Recurrence]:
    """The outputs of one layer in one direction, in the order of its steps, and what they tell."""
    kept, seen, drive = [states], [], x @ w.within.T + w.bias
    for given in drive:
        states, values = step(w, given, states)
        kept.append(states)
        seen.append(values)
    outputs = torch.stack([s[0] for s in kept[1:]])
    told = Recurrence(
        tuple(outputs.square().mean((1, 2)).sqrt().tolist()),
        _gradient(step, w, drive, kept),
        {name: _gate(name, torch.stack([s[name] for s in seen])) for name in seen[0]},
        max(_spectral_radius(part) for part in _square(w).chunk(gates)),
        x.shape[1],
    )
    return outputs, told


def _gradient(step: Step, w: Weights, drive: Tensor, kept: Sequence[States]) -> tuple[float, ...]:
    """What is left of a random gradient at the last state, at each; 1 at the last."""
    random = torch.Generator().manual_seed(_SEED)
    grads = [torch.randn(s.shape, generator=random, dtype=s.dtype).to(s) for s in kept[-1]]
    found, log = [1.0], 0.0
    norm = float(torch.cat([g.flatten() for g in grads]).norm())
    for t in range(len(kept) - 2, 0, -1):
        with torch.enable_grad():
            before = [s.detach().requires_grad_() for s in kept[t]]
            after, _ = step(w, drive[t], tuple(before))
            pulled = torch.autograd.grad(after, before, [g / norm for g in grads])
        grads = list(pulled)
        norm = float(torch.cat([g.flatten() for g in grads]).norm())
        if not 0 < norm < math.inf:
            found += [norm] * t
            break
        log = min(log + math.log(norm), 700.0)
        found.append(math.exp(log))
    return tuple(found[::-1])


def _gate(name: str, values: Tensor) -> Gate:
    is_flat = ACTIVATIONS["tanh" if name in _TANHS else "sigmoid"].saturated
    assert is_flat is not None
    return Gate(float(values.mean()), float(is_flat(values, 0.0, 0.0).double().mean()))


def _square(w: Weights) -> Tensor:
    """The recurrent weight from state to state: by way of the projection, if there is one."""
    return w.across if w.projection is None else w.across @ w.projection


def _spectral_radius(square: Tensor) -> float:
    """The limit of the k-th root of the norm of the k-th power (Gelfand 1941), at k = 1024."""
    log, power = 0.0, square
    for doubling in range(11):
        norm = float(power.norm())
        if not 0 < norm < math.inf:
            return norm
        log += math.log(norm) / 2**doubling
        power = power / norm
        power = power @ power
    return math.exp(log)
