"""Calls of public functions with arguments of every kind, most of them wrong."""

import functools
import inspect
import math

import numpy as np
import torch
from torch import nn

import initfast
from initfast import init, ops, theory


class Subclass(torch.Tensor):
    """A tensor of a class of its own."""


class Raises(nn.Module):
    """A net that does not run."""

    def forward(self, x):
        raise LookupError("its own")


def _robbed():
    t = torch.randn(4, 4)
    t.untyped_storage().resize_(0)
    return t


def _inference():
    with torch.inference_mode():
        return torch.randn(4, 4)


def _parametrized():
    return nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))


def _scalars():
    return [
        *(None, True, 0, 1, -1, 3, 2**31, 2**64, -(2**70), 0.0, 0.5, -0.5, 1e-320, 1e300),
        *(math.nan, math.inf, -math.inf, 1j, "", "relu", "fan_in", "out in", "0", "\x1b[2J", b"x"),
        *((), [], {}, set(), (4, 4), [4, -4], {"a": 1}, object(), int, torch.float16, torch.relu),
        *(
            torch.device("meta"),
            torch.Generator(),
            np.float32(2),
            np.ones(3),
            "x" * 999,
            "é\ud800",
        ),
    ]


def _tensors():
    x = torch.randn(4, 4)
    return [
        *(_robbed(), x, torch.randn(4, 4, 3), torch.randn(4), torch.tensor(1.0), torch.empty(0, 4)),
        *(torch.ones(4, 4, dtype=torch.int64), x > 0, x + 1j, x.double(), x.half(), x.bfloat16()),
        *(x.to(torch.float8_e4m3fn), x.to("meta"), x.to_sparse(), x.to_sparse_csr(), x * math.nan),
        *(x[:1].expand(4, 4), x.t(), x[::2], torch._neg_view(x), (x + 1j).conj(), x[0]),
        *(
            nn.Parameter(x),
            (x.requires_grad_() * 2),
            _inference(),
            x.detach().as_subclass(Subclass),
        ),
        torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)]),
        torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8),
        torch.randn(300).unfold(0, 4, 1),
        torch.full((4, 4), 3e38),
    ]


def _nets():
    return [
        *(nn.Linear(4, 4), nn.Linear, Raises(), nn.Module(), nn.Sequential(), nn.LazyLinear(4)),
        *(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)), len, str),
        *(nn.Conv2d(1, 1, 3), nn.Embedding(4, 4), nn.LSTM(4, 4), nn.Linear(4, 4, device="meta")),
        *(_parametrized(), nn.Linear(4, 0), nn.Linear(4, 4, dtype=torch.complex64), lambda x: x),
        *(lambda: 1, lambda x: None, lambda x: 1 / 0, nn.Linear(4, 4).half(), nn.ModuleList()),
    ]


def _reports():
    x = torch.ones(4, 4)
    report = initfast.profile(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), x)
    return [
        report,
        report[0],
        report[0].post,
        report.findings,
        initfast.profile(nn.Linear(4, 4), x),
    ]


def values():
    """Fresh values of every kind, each kind in a list of its own."""
    return [_scalars(), _tensors(), _nets(), _reports()]


def functions():
    """The public functions by their names, and methods of what they return."""
    found = {f"init.{n}": getattr(init, n) for n in init.__all__ if n != "ArgumentError"}
    found |= {f"ops.{n}": getattr(ops, n) for n in ops.__all__}
    found |= {f"theory.{n}": getattr(theory, n) for n in ("gain", "chi", "q_slope", "fixed_point")}
    found |= {
        n: getattr(initfast, n)
        for n in (
            *("profile", "audit", "assert_healthy", "assert_same_init", "compare", "diagnose"),
            *("initialize_", "lsuv_", "predict_scales", "repair_", "Profiler", "Moments"),
        )
    }
    found["Moments.of"] = initfast.Moments.of
    for name in ("__getitem__", "select", "check", "explain", "merge", "tree", "scalars"):
        found[f"Report.{name}"] = getattr(initfast.Report, name)
    return found


_LIKELY = {"tensor": 1, "x": 1, "z": 1, "out": 1, "net": 2, "a": 3, "b": 3, "report": 3, "self": 3}
"""Which of the kinds an argument of that name is; the others are numbers, texts and the like."""


def a_call(rng, kinds, function):
    """Arguments of a function by their names, most of a right kind.

    Args:
        rng: a random.Random, which draws them.
        kinds: what :func:`values` returns.
        function: to be called.
    """
    found = {}
    for name, parameter in _parameters(function):
        if parameter.default is not parameter.empty and rng.random() < 0.7:
            continue
        likely = _LIKELY.get(name, 0)
        kind = likely if rng.random() < 0.7 else rng.randrange(len(kinds))
        choice = kinds[3][:1] if name == "self" else kinds[kind]
        if kind == 1 != likely and name != "self":
            choice = choice[1:]  # torch dies as it computes with a number that has no memory
        found[name] = rng.choice(choice)
    return found


@functools.cache
def _parameters(function):
    return [*inspect.signature(function).parameters.items()]
