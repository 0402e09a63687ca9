"""What the stages of a first contact with a card share: where results go, sizes, and time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

Run = Callable[[], object]


class Results:
    """Appends facts to a file.

    Args:
        folder: that gets results.jsonl and log.txt.

    Attributes:
        log: the path of log.txt.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "results.jsonl"
        self.log = folder / "log.txt"

    def say(self, what: str, **fact: Any) -> None:
        """Append one fact, and print it."""
        line = json.dumps({"what": what, **fact})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line, flush=True)


class Contact(NamedTuple):
    """Where a stage runs, and where its results go."""

    results: Results
    device: torch.device
    small: bool

    def size(self, large: int, small: int) -> int:
        """A size on a card, or in a rehearsal."""
        return small if self.small else large

    def randn(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normal numbers."""
        return torch.randn(*shape, device=self.device).to(dtype)

    def attempt(self, what: str, name: str, measure: Callable[[], dict[str, Any]]) -> bool:
        """Say what a measurement finds, or what it raises."""
        try:
            self.results.say(what, name=name, **measure())
            return True
        except Exception as error:
            self.results.say(what, name=name, error=f"{type(error).__name__}: {error}"[:400])
            return False
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


# ---- time ----


def device_seconds(runs: Sequence[Run], device: torch.device, budget: float = 0.25) -> float:
    """The median seconds of one run on the device alone.

    On a card the runs are one graph, which is replayed, so that the host's time is left out.

    Args:
        runs: over different operands in turn, together larger than the card's cache.
        device: where they run.
        budget: seconds to measure for.
    """
    if device.type != "cuda":
        return host_seconds(lambda: [run() for run in runs], device, 3)[1] / len(runs)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what a first call allocates may not be captured
        for run in runs:
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    graph.replay()
    torch.cuda.synchronize()
    times: list[float] = []
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(times) < 5:
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        graph.replay()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after) / 1e3 / len(runs))
    return median(times)


def host_seconds(run: Run, device: torch.device, count: int) -> tuple[float, float]:
    """The seconds of one run until the host goes on, and until the device has finished."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(min(count, 5)):
        run()
    wait()
    start = time.perf_counter()
    for _ in range(count):
        run()
    host = time.perf_counter() - start
    wait()
    return host / count, (time.perf_counter() - start) / count
