"""See and repair how signals propagate through a neural net at initialisation.

    report = initfast.profile(net, x)               # one forward, the statistics of every layer
    report = initfast.profile(net, x, loss=fn)      # and one backward, the gradients of every layer
    print(report)                                   # a table, then what is wrong and what to do
    report["encoder.0"].std, report.findings        # one layer; the findings, worst first
    print(initfast.audit(net))                      # what its weights were drawn from; no forward
    with initfast.Profiler(net) as p: train()       # the same over the calls of a loop: p.report()
    initfast.init.kaiming_normal_(w)                # torch.nn.init's functions, fast, the same bits
    initfast.theory.gain(torch.tanh)                # 1.5925..., for any activation
    initfast.build_info()                           # which kernels run

What is what: `profile` and `Profiler` measure; a `Report` holds a `Layer` for each operator, whose
numbers are `Moments`, and a `Finding` for each fault; `diagnose` judges a report by other
`thresholds`; `audit` looks at the parameters alone. `init` has the initialisers, `ops` the
operators, `theory` what to expect of any activation, `experiments` the classic experiments, which
``python -m initfast`` runs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from initfast import init, ops
from initfast.ops.library import LibraryInfo
from initfast.ops.schemas import LIBRARY as _LIBRARY
from initfast.version import __version__ as __version__

if TYPE_CHECKING:
    from initfast import experiments, plots, theory, thresholds
    from initfast.diagnosis.diagnosing import Diagnosis, diagnose
    from initfast.diagnosis.findings import Finding
    from initfast.profiling.predicted_scales import predict_scales
    from initfast.profiling.profile import profile
    from initfast.profiling.profiler import Profiler
    from initfast.repair.auditing import Audit, audit
    from initfast.repair.initialize import initialize_
    from initfast.repair.lsuv import lsuv_
    from initfast.repair.repairing import Repair, repair_
    from initfast.repair.same_init import assert_same_init
    from initfast.report.comparison import Comparison, compare
    from initfast.report.report import Report
    from initfast.stats.layer import Layer
    from initfast.stats.moments import Moments
    from initfast.testing.coordinates import coordinate_check
    from initfast.testing.health import assert_healthy

__all__ = [
    "Audit",
    "Comparison",
    "Diagnosis",
    "Finding",
    "Layer",
    "LibraryInfo",
    "Moments",
    "Profiler",
    "Repair",
    "Report",
    "assert_healthy",
    "assert_same_init",
    "audit",
    "build_info",
    "compare",
    "coordinate_check",
    "diagnose",
    "experiments",
    "init",
    "initialize_",
    "lsuv_",
    "ops",
    "plots",
    "predict_scales",
    "profile",
    "repair_",
    "theory",
    "thresholds",
]

_LATER = {
    "Audit": "repair.auditing",
    "Comparison": "report.comparison",
    "Diagnosis": "diagnosis.diagnosing",
    "Finding": "diagnosis.findings",
    "Layer": "stats.layer",
    "Moments": "stats.moments",
    "Profiler": "profiling.profiler",
    "Repair": "repair.repairing",
    "Report": "report.report",
    "assert_healthy": "testing.health",
    "assert_same_init": "repair.same_init",
    "audit": "repair.auditing",
    "compare": "report.comparison",
    "coordinate_check": "testing.coordinates",
    "diagnose": "diagnosis.diagnosing",
    "initialize_": "repair.initialize",
    "lsuv_": "repair.lsuv",
    "predict_scales": "profiling.predicted_scales",
    "profile": "profiling.profile",
    "repair_": "repair.repairing",
}
"""Where each name is that is imported when it is first used.

The operators and initialisers are there at once: a compiler may meet them before anything else.
"""


def build_info() -> LibraryInfo:
    """What runs the operators: "native" kernels or the plain PyTorch "reference", and why.

    Returns:
        backend, reason, isa (the CPU instruction set chosen), cuda (the CUDA version of the
        kernels), torch_built and torch_running.

    Example:
        >>> initfast.build_info().backend in ("native", "reference")
        True
    """
    return _LIBRARY


def __getattr__(name: str) -> Any:
    if name in ("experiments", "integrations", "plots", "theory", "thresholds"):
        return importlib.import_module(f"initfast.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'initfast' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"initfast.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
