"""What ``import initfast`` adds to ``import torch``, each time in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

BUDGET = 0.05
"""Seconds that it may add."""

_CODE = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import initfast
print(middle - start, time.perf_counter() - middle)
"""


def import_seconds(rounds: int) -> tuple[float, float]:
    """The median seconds of ``import torch``, and of ``import initfast`` after it."""
    # An installed package has its bytecode; one that runs from its sources writes it once.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(rounds + 1):
        done = subprocess.run(
            [sys.executable, "-c", _CODE],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        times.append([float(part) for part in done.stdout.split()])
    torch_times, initfast_times = zip(*times[1:], strict=True)  # the first warms the disk's cache
    return median(torch_times), median(initfast_times)
