"""coordinate_check(): whether activations, and their changes in training, depend on the width."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from initfast.nets.pytree import tensors
from initfast.stats.text import shown

TOLERANCE = 0.25
"""Of a slope: half of 1/2, the smallest by which a wrong power of the width is off."""


class Coordinates(NamedTuple):
    """The scale of one layer's output: one seed, one width, one step.

    Attributes:
        seed: of the net's draws.
        width: as :func:`coordinate_check` was given it.
        step: how many updates came before, from 0.
        name: the path of the module, "" for the net; "NAME:2" its second call in one forward, and
            "NAME[1]" the second of several outputs.
        size: how many values there were.
        mean_magnitude: the mean of their magnitudes.
        rms: the root of their mean square.
        change: the rms of their difference from step 0.
    """

    seed: int
    width: int
    step: int
    name: str
    size: int
    mean_magnitude: float
    rms: float
    change: float


class LayerSlopes(NamedTuple):
    """How the scale of a layer goes with the width: as width^slope.

    Attributes:
        name: of the layer.
        initial: of the rms at step 0; NaN where it is zero.
        change: of the change after the first update that changes the layer, by which it is judged;
            NaN where none does.
        last_change: of the change at the last step. In wide nets it is as much a matter of how far
            training has come by then.
        is_fixed: whether the layer has as many values at every width, as a net's output has.
        fault: what is off, in words; "" where nothing is.
    """

    name: str
    initial: float
    change: float
    last_change: float
    is_fixed: bool
    fault: str


@dataclass(frozen=True)
class CoordinateCheck:
    """What :func:`coordinate_check` returns; it prints its slopes and the verdict.

    Attributes:
        coordinates: everything that was measured.
        layers: the slopes of each layer, in the order in which they first ran.
    """

    coordinates: list[Coordinates]
    layers: list[LayerSlopes]

    @property
    def is_right(self) -> bool:
        """Whether no layer is off."""
        return not self.off

    @property
    def off(self) -> list[LayerSlopes]:
        """The layers that are off."""
        return [layer for layer in self.layers if layer.fault]

    def __str__(self) -> str:
        names = [layer.name or "(net)" for layer in self.layers]
        width = max(map(len, ["layer", *names]))
        lines = [f"{'layer':<{width}}  initial   change  last change"]
        for name, layer in zip(names, self.layers, strict=True):
            slopes = f"{layer.initial:7.2f}  {layer.change:7.2f}  {layer.last_change:11.2f}"
            lines.append(f"{name:<{width}}  {slopes}  {layer.fault}".rstrip())
        verdict = f"{len(self.off)} of {len(self.layers)} layers are off: slopes should be 0"
        good = "every layer keeps its scale, and learns at the same pace, at every width"
        return shown("\n".join([*lines, "", good if self.is_right else verdict]))


def coordinate_check(
    make_net: Callable[[int], nn.Module],
    widths: Sequence[int],
    x: Any,
    *,
    loss: Callable[[Any, Any], Tensor],
    targets: Any,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    steps: int = 4,
    seeds: int = 1,
    tolerance: float = TOLERANCE,
) -> CoordinateCheck:
    """Train nets of several widths for a few steps, and see how their activations' scale goes.

    In the maximal update parametrisation (muP; Yang & Hu 2021, "Tensor Programs V", appendix D.1)
    neither an activation nor its change after a few updates depends on the width. The slope of
    log(rms) over log(width) should be 0 at the start, but that of an output of fixed size may fall
    down to -1. That of log(change) should be 0 after the first update that changes the layer: later
    ones depend on how far training has come. A layer is off where a slope is further from that than
    the tolerance.

    Args:
        make_net: makes the net of a width, with its initialisation.
        widths: at least two, such as (64, 128, 256, 512).
        x: the input: a tensor, a tuple of arguments or a dict of keyword arguments. Every step
            takes it again.
        loss: called as loss(output, targets).
        targets: of the loss.
        optimizer: makes the optimizer of a net: `lambda net: Adam(net.parameters(), lr=0.01)`.
        steps: forwards, with an update between each two; at least 2.
        seeds: the nets are made with each of so many seeds, and the slopes are fitted to all.
        tolerance: of a slope.

    Returns:
        The :class:`CoordinateCheck`. torch's random state is as before.

    Raises:
        ValueError: there are fewer than two widths, a width is below 1, or steps or seeds are too
            few.

    Example:
        >>> def mlp(n):
        ...     return nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, n), nn.Linear(n, 1))
        >>> check = initfast.coordinate_check(
        ...     mlp, (64, 128, 256), torch.randn(16, 8), loss=nn.functional.mse_loss,
        ...     targets=torch.ones(16, 1), optimizer=lambda net: torch.optim.Adam(net.parameters()))
        >>> "2" in [layer.name for layer in check.off]  # Adam's steps are too long for wide layers
        True
    """
    if len(set(widths)) < 2 or min(widths) < 1:
        raise ValueError(f"coordinate_check: widths is {widths!r}; expected two or more, from 1 up")
    if steps < 2 or seeds < 1:
        raise ValueError(
            f"coordinate_check: steps is {steps!r} and seeds {seeds!r}; expected at least 2 and 1"
        )
    found: list[Coordinates] = []
    with torch.random.fork_rng(devices=[]):
        for seed in range(seeds):
            torch.manual_seed(seed)
            for width in widths:
                net = make_net(width)
                first: dict[str, Tensor] = {}
                update = optimizer(net)
                for step in range(steps):
                    with _measured(net, first) as rows:
                        output = _called(net, x)
                    found += [Coordinates(seed, width, step, *row) for row in _copied(rows)]
                    update.zero_grad()
                    loss(output, targets).backward()
                    update.step()
    return CoordinateCheck(found, _slopes(found, steps - 1, tolerance))


def _called(net: nn.Module, x: Any) -> Any:
    if isinstance(x, dict):
        return net(**x)
    return net(*x) if isinstance(x, tuple) else net(x)


@contextmanager
def _measured(net: nn.Module, first: dict[str, Tensor]) -> Iterator[dict[str, tuple[int, Tensor]]]:
    """Within it, each module's outputs are measured: size, and three numbers on the device.

    Args:
        net: whose modules are called.
        first: the outputs of step 0, which it fills where it is empty.
    """
    rows: dict[str, tuple[int, Tensor]] = {}
    calls: dict[str, int] = defaultdict(int)
    is_first = not first

    def look(name: str, output: Any) -> None:
        calls[name] += 1
        for path, tensor in tensors(output):
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            values = tensor.detach().double()
            key = f"{name}:{calls[name]}{path}" if calls[name] > 1 else f"{name}{path}"
            if is_first:
                first[key] = values
            known = first.get(key)
            change = values.new_tensor(math.nan)
            if known is not None and known.shape == values.shape:
                change = _rms(values - known)
            rows[key] = values.numel(), torch.stack([values.abs().mean(), _rms(values), change])

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: look(name, output))
        for name, module in net.named_modules()
    ]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def _rms(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()


def _copied(rows: dict[str, tuple[int, Tensor]]) -> Iterator[tuple[str, int, float, float, float]]:
    """The rows' names, sizes and numbers, copied from the device at once."""
    numbers = torch.stack([numbers for _, numbers in rows.values()]).tolist() if rows else []
    for (name, (size, _)), (magnitude, rms, change) in zip(rows.items(), numbers, strict=True):
        yield name, size, magnitude, rms, change


def _slopes(found: Sequence[Coordinates], last: int, tolerance: float) -> list[LayerSlopes]:
    layers: dict[str, list[Coordinates]] = defaultdict(list)
    for coordinates in found:
        layers[coordinates.name].append(coordinates)
    slopes = []
    for name, of_layer in layers.items():
        initial = _slope([(c.width, c.rms) for c in of_layer if c.step == 0])
        changes = [_change_slope(of_layer, step) for step in range(1, last + 1)]
        change = next((slope for slope in changes if not math.isnan(slope)), math.nan)
        is_fixed = len({c.size for c in of_layer}) == 1
        finite = all(math.isfinite(c.rms) for c in of_layer)
        fault = _fault(initial, change, is_fixed, tolerance) if finite else "is not finite"
        slopes.append(LayerSlopes(name, initial, change, changes[-1], is_fixed, fault))
    return slopes


def _change_slope(of_layer: Sequence[Coordinates], step: int) -> float:
    return _slope([(c.width, c.change) for c in of_layer if c.step == step])


def _slope(points: Sequence[tuple[int, float]]) -> float:
    """The least-squares slope of log y over log x; NaN where a y is zero or not finite."""
    if not all(0 < y < math.inf for _, y in points) or len({x for x, _ in points}) < 2:
        return math.nan
    u, v = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    mean_u, mean_v = sum(u) / len(u), sum(v) / len(v)
    products = sum((a - mean_u) * (b - mean_v) for a, b in zip(u, v, strict=True))
    return products / sum((a - mean_u) ** 2 for a in u)


def _fault(initial: float, change: float, is_fixed: bool, tolerance: float) -> str:
    """What is off; a slope that is NaN, of a layer that is zero, is off nowhere."""
    faults = []
    if initial > tolerance:
        faults.append("grows with the width at the start")
    if initial < -tolerance - is_fixed:
        faults.append("fades with the width at the start")
    if change > tolerance:
        faults.append("changes more in wider nets")
    if change < -tolerance:
        faults.append("changes less in wider nets")
    return ", ".join(faults)
