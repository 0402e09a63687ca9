"""On a card alone: the operators and samplers beside a copy that moves as many bytes.

The sizes are those of the README's predictions, too large for a card's cache. A ratio of 1.25 is
80 % of the copy's bandwidth.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from case import Case, Reference, Run, Work
from operator_cases import DTYPES, linear_case
from timing import Machine
from torch import Tensor, nn

from initfast import init, ops

_COUNT = 2**26
_UNITS = 4096
_BATCHES = (("f32", (16, 32, 4096)), ("bf16", (16, 64)))


def cases(machine: Machine) -> Iterator[Case]:
    """moments, act and its backward, linear_act, samplers."""
    if machine.device.type != "cuda":
        return
    for build, dtypes in ((_moments, ("f32", "bf16")), (_act, ("f32", "bf16")), (_back, ("f32",))):
        for dtype in dtypes:
            name = {_moments: "moments", _act: "act tanh", _back: "act_backward tanh"}[build]
            case = functools.partial(build, machine, DTYPES[dtype])
            yield Case("copy", f"{name} of {_COUNT} {dtype}", case)
    for dtype, batches in _BATCHES:
        for batch in batches:
            yield linear_case(machine, "tanh", (batch, _UNITS, _UNITS), dtype)
    for name, dtype in (("uniform_", "f32"), ("normal_", "f32"), ("normal_", "bf16")):
        sampler = functools.partial(_sampler, machine, name, DTYPES[dtype])
        yield Case("copy", f"{name} of {_COUNT} {dtype}", sampler)


def _work(machine: Machine, run: Run, read: int, written: int, *others: Reference) -> Work:
    source = torch.empty((read + written) // 8, device=machine.device)
    target = torch.empty_like(source)
    copy = Reference("a copy", lambda: target.copy_(source))
    return Work(run, [copy, *others], limit=machine.limit(read=read, written=written))


def _numbers(machine: Machine, dtype: torch.dtype) -> Tensor:
    return torch.randn(_COUNT // _UNITS, _UNITS, device=machine.device).to(dtype)


def _moments(machine: Machine, dtype: torch.dtype) -> Work:
    x = _numbers(machine, dtype)
    return _work(machine, lambda: ops.moments(x), x.nbytes, 0)


def _act(machine: Machine, dtype: torch.dtype) -> Work:
    z = _numbers(machine, dtype)
    return _work(machine, lambda: ops.act(z, "tanh"), z.nbytes, z.nbytes)


def _back(machine: Machine, dtype: torch.dtype) -> Work:
    z, grad_y = _numbers(machine, dtype), _numbers(machine, dtype)
    operator = torch.ops.initfast.act_backward
    return _work(machine, lambda: operator(grad_y, z, "tanh", 0.0, 0.0), 2 * z.nbytes, z.nbytes)


def _sampler(machine: Machine, name: str, dtype: torch.dtype) -> Work:
    w = torch.empty(_COUNT // _UNITS, _UNITS, device=machine.device, dtype=dtype)
    ours: Callable[[Tensor], Tensor] = getattr(init, name)
    theirs: Callable[[Tensor], Tensor] = getattr(nn.init, name)
    torch_init = Reference("torch.nn.init", lambda: theirs(w))
    return _work(machine, lambda: ours(w), 0, w.nbytes, torch_init)
