"""See and repair how signals propagate through a neural net at initialisation.

report = initfast.profile(net, x)   # one forward, the statistics of every layer
print(report)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from initfast import init, ops
from initfast.diagnosis.findings import Finding
from initfast.ops.library import LibraryInfo
from initfast.ops.schemas import LIBRARY
from initfast.profiling.profile import profile
from initfast.profiling.profiler import Profiler
from initfast.report.report import Layer, Report
from initfast.stats.moments import Moments

if TYPE_CHECKING:
    from initfast import experiments
    from initfast.diagnosis.diagnosing import Diagnosis, diagnose

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
    return LIBRARY


_LATER = {
    "Diagnosis": "diagnosis.diagnosing",
    "diagnose": "diagnosis.diagnosing",
    "experiments": "experiments",
}
"""Names that few programs use, and the modules that are imported when they are."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'initfast' has no attribute {name!r}")
    module = importlib.import_module(f"initfast.{_LATER[name]}")
    return module if name == _LATER[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(globals() | _LATER)
