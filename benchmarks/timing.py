"""Timing that survives a noisy machine, and the machine's own limits.

What is compared runs in turn, A B A B, the order reversed every other round, so that a slow spell
of the machine falls on all of it. A ratio is the median of the ratios within rounds; a time is a
median too. The garbage collector is off meanwhile. Where the shortest times give another ratio than
the medians do, the machine was too busy to tell, and the line says so.
"""

from __future__ import annotations

import functools
import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from case import Run

_LEAST_SAMPLE = 1e-3  # seconds; shorter work is repeated within one sample


@dataclass(frozen=True)
class Effort:
    """How long to measure: until the budget is spent, within bounds on the rounds."""

    budget: float
    least_rounds: int
    most_rounds: int = 400


FULL = Effort(budget=3.0, least_rounds=9)
QUICK = Effort(budget=0.4, least_rounds=3)


@dataclass(frozen=True)
class Comparison:
    """Seconds of each contestant, and the first's time as a multiple of each.

    Attributes:
        seconds: medians.
        ratios: medians of the ratios within rounds.
        best_ratios: of the shortest times.
    """

    seconds: tuple[float, ...]
    ratios: tuple[float, ...]
    best_ratios: tuple[float, ...]


class Machine:
    """The device, how much effort to measure with, and what the device can do at best.

    Attributes:
        device: where the tensors of the cases lie.
        effort: how long to measure.
    """

    def __init__(self, device: torch.device, effort: Effort) -> None:
        self.device = device
        self.effort = effort
        self._byte_rates: dict[tuple[str, int], float] = {}

    def compare(self, runs: Sequence[Run], effort: Effort | None = None) -> Comparison:
        """Time the runs in turn.

        Args:
            runs: the candidate first, then what it is compared with.
            effort: other than the machine's.
        """
        rounds = self._rounds(runs, effort or self.effort)
        columns = list(zip(*rounds, strict=True))
        return Comparison(
            seconds=tuple(median(column) for column in columns),
            ratios=tuple(median(times[0] / times[i] for times in rounds) for i in range(len(runs))),
            best_ratios=tuple(min(columns[0]) / min(column) for column in columns),
        )

    def best(self, run: Run) -> float:
        """The shortest of several times, for the device's limits."""
        effort = Effort(budget=0.3, least_rounds=10, most_rounds=100)
        return min(times[0] for times in self._rounds([run], effort))

    def limit(self, *, flops: float = 0, read: int = 0, written: int = 0) -> float:
        """The seconds that work takes at least on this device, by measured rates.

        Args:
            flops: float32 operations, at the rate of the library's best matrix product.
            read: bytes, at the rate of a sum (nothing written) or of a copy.
            written: bytes, at the rate of a fill (nothing read) or of a copy.
        """
        seconds = flops / self.flop_rate if flops else 0.0
        moved = read + written
        if not moved:
            return seconds
        kind = "copy" if read and written else "read" if read else "fill"
        return max(seconds, moved / self.byte_rate(kind, moved))

    @functools.cached_property
    def flop_rate(self) -> float:
        """Operations a second of a float32 matrix product."""
        n = 4096 if self.device.type == "cuda" else 2048
        a, b = (torch.randn(n, n, device=self.device) for _ in range(2))
        return 2 * n**3 / self.best(lambda: torch.mm(a, b))

    def byte_rate(self, kind: str, size: int) -> float:
        """Bytes a second of "read", "fill" or "copy", moving about this many bytes in all."""
        key = kind, max(20, round(math.log2(size)))
        if key not in self._byte_rates:
            self._byte_rates[key] = self._measure_bytes(*key)
        return self._byte_rates[key]

    def _measure_bytes(self, kind: str, exponent: int) -> float:
        x = torch.ones(2**exponent // 4, device=self.device)
        half = x.numel() // 2
        run: Run = {
            "read": lambda: x.sum(),
            "fill": lambda: x.fill_(1.0),
            "copy": lambda: x[:half].copy_(x[half:]),
        }[kind]
        return x.nbytes / self.best(run)

    def _rounds(self, runs: Sequence[Run], effort: Effort) -> list[list[float]]:
        repeats = [self._repeats(run) for run in runs]
        order = list(range(len(runs)))
        rounds: list[list[float]] = []
        collecting = gc.isenabled()
        gc.collect()
        gc.disable()
        try:
            start = time.perf_counter()
            while len(rounds) < effort.least_rounds or (
                len(rounds) < effort.most_rounds and time.perf_counter() - start < effort.budget
            ):
                times = [0.0] * len(runs)
                for i in order:
                    times[i] = self._sample(runs[i], repeats[i])
                rounds.append(times)
                order.reverse()
        finally:
            if collecting:
                gc.enable()
        return rounds

    def _repeats(self, run: Run) -> int:
        """Warm up, and find how many calls make one sample."""
        once = min(self._sample(run, 1) for _ in range(3))
        return max(1, math.ceil(_LEAST_SAMPLE / once))

    def _sample(self, run: Run, repeats: int) -> float:
        self._synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        self._synchronize()
        return (time.perf_counter() - start) / repeats

    @functools.cached_property
    def _synchronize(self) -> Callable[[], None]:
        if self.device.type == "cuda":
            return functools.partial(torch.cuda.synchronize, self.device)
        return lambda: None
