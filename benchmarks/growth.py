"""How the time of ``initfast.profile`` grows with depth, width and batch.

The exponent of ``time ~ size^exponent`` is fitted by least squares on logarithms, for the profile
and for the plain forward of the same nets: the net's own growth, out of one cache and into the
next, is in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from profile_cases import tanh_net
from timing import Effort, Machine

import initfast

ALLOWANCE = 0.05
"""A profile may grow by this much in the exponent faster than the plain forward."""

# depth, width, batch; None is what is swept
_SWEEPS: dict[str, tuple[tuple[int, ...], tuple[int | None, int | None, int | None]]] = {
    "depth": ((10, 30, 100, 300, 1000), (None, 256, 16)),
    "width": ((64, 128, 256, 512, 1024), (20, None, 16)),
    "batch": ((4, 16, 64, 256, 1024), (20, 256, None)),
}


@dataclass(frozen=True)
class Growth:
    """One sweep: sizes, seconds at each, and the fitted exponents."""

    name: str
    fixed: str
    sizes: tuple[int, ...]
    layers: tuple[int, ...]
    profile: tuple[float, ...]
    plain: tuple[float, ...]

    @property
    def profile_exponent(self) -> float:
        """Of the profile's time."""
        return exponent(self.sizes, self.profile)

    @property
    def plain_exponent(self) -> float:
        """Of the plain forward's time."""
        return exponent(self.sizes, self.plain)

    @property
    def passed(self) -> bool:
        """Whether a profile grows no faster than the plain forward, within ALLOWANCE."""
        return self.profile_exponent <= self.plain_exponent + ALLOWANCE


def exponent(sizes: tuple[int, ...], seconds: tuple[float, ...]) -> float:
    """The slope of log(seconds) over log(sizes), by least squares."""
    x = [math.log(size) for size in sizes]
    y = [math.log(second) for second in seconds]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - x_mean) ** 2 for a in x)


def names(wanted: str) -> list[str]:
    """Of the sweeps, "growth with depth" and so on, those that contain what is wanted."""
    return [name for name in (f"growth with {each}" for each in _SWEEPS) if wanted in name]


def sweep(machine: Machine, name: str) -> Growth:
    """Measure the sweep of that name."""
    effort = Effort(machine.effort.budget / 2, machine.effort.least_rounds)
    of = name.removeprefix("growth with ")
    sizes, point = _SWEEPS[of]
    points = [[size if value is None else value for value in point] for size in sizes]
    times = [_measure(machine, effort, *point) for point in points]
    parts = zip(("depth", "width", "batch"), point, strict=True)
    return Growth(
        name=of,
        fixed=", ".join(f"{part} {value}" for part, value in parts if value is not None),
        sizes=sizes,
        layers=tuple(depth for depth, _, _ in points),
        profile=tuple(profile for profile, _ in times),
        plain=tuple(plain for _, plain in times),
    )


def _measure(
    machine: Machine, effort: Effort, depth: int, width: int, batch: int
) -> tuple[float, float]:
    net = tanh_net(depth, width, machine.device)
    x = torch.randn(batch, width, device=machine.device)
    profile, plain = machine.compare(
        [lambda: initfast.profile(net, x), lambda: net(x)], effort
    ).seconds
    return profile, plain
