"""See and repair how signals propagate through a neural net at initialisation.

report = initfast.profile(net, x)   # one forward, the statistics of every layer
print(report)
"""

from __future__ import annotations

from initfast import experiments, init, ops
from initfast._library import LibraryInfo
from initfast.batches import Profiler
from initfast.diagnosis import Diagnosis, diagnose
from initfast.findings import Finding
from initfast.moments import Moments
from initfast.profiler import profile
from initfast.report import Layer, Report

__all__ = [
    "Diagnosis",
    "Finding",
    "Layer",
    "LibraryInfo",
    "Moments",
    "Profiler",
    "Report",
    "build_info",
    "diagnose",
    "experiments",
    "init",
    "ops",
    "profile",
]
__version__ = "0.1.0"


def build_info() -> LibraryInfo:
    """What runs the operators: "native" kernels or the plain PyTorch "reference", and why.

    Returns:
        backend, reason, isa (the CPU instruction set chosen), cuda (the CUDA version of the
        kernels), torch_built and torch_running.

    Example:
        >>> initfast.build_info().backend in ("native", "reference")
        True
    """
    return ops.LIBRARY
