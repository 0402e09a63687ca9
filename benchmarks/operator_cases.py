"""The operators beside torch's own, without statistics."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from case import Case, Peer, Reference, Run, Work
from peers import compiled, statistics
from timing import Machine
from torch import Tensor

from initfast import ops

_LINEAR_SHAPES = ((16, 256, 256), (1, 1024, 1024), (256, 1024, 1024), (2048, 4096, 4096))
_UNIT_SHAPES = ((4096, 4096), (64, 256))  # from memory, and in the cache
_ACT_SHAPES = ((16, 256), (256, 1024), (2048, 4096))
_ACTIVATIONS = ("tanh", "relu", "gelu")
_CACHE = 2**27  # bytes, more than any card's second-level cache
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def cases(machine: Machine) -> Iterator[Case]:
    """moments, then linear_act, then act."""
    for power in (24, 14):  # from memory, and in the cache
        build = functools.partial(_moments, machine, 2**power)
        yield Case("moments", f"moments of 2^{power} f32", build)
    for shape in _UNIT_SHAPES:
        build = functools.partial(_unit_moments, machine, shape)
        yield Case("moments", "moments of {} x {} f32 and its units".format(*shape), build)
    for act in _ACTIVATIONS:
        for shape in _LINEAR_SHAPES if act == "tanh" else _LINEAR_SHAPES[:1]:
            yield linear_case(machine, act, shape, "f32")
    yield linear_case(machine, "tanh", (256, 1024, 1024), "bf16")
    for act in _ACTIVATIONS:
        for rows, units in _ACT_SHAPES:
            build = functools.partial(_act, machine, act, (rows, units))
            yield Case("act", f"act {act}, {rows} x {units}", build)


def _moments(machine: Machine, count: int) -> Work:
    x = torch.randn(count, device=machine.device)
    return Work(
        run=lambda: ops.moments(x),
        references=[
            Reference("torch.sum", lambda: torch.sum(x), target=1.3),
            Reference("torch.std", lambda: torch.std(x)),
        ],
        limit=machine.limit(read=x.nbytes),
    )


def _unit_moments(machine: Machine, shape: tuple[int, int]) -> Work:
    x = torch.randn(shape, device=machine.device)
    return Work(
        run=lambda: ops.unit_moments(x),
        references=[
            Reference("torch.sum", lambda: torch.sum(x), target=1.5),
            Reference("torch.var_mean of each unit", lambda: torch.var_mean(x, 0)),
        ],
        limit=machine.limit(read=x.nbytes),
    )


def linear_case(machine: Machine, act: str, shape: tuple[int, int, int], dtype: str) -> Case:
    """linear_act of batch, fan_in, fan_out."""
    name = "linear_act {}, {} x {} x {} {}".format(act, *shape, dtype)
    build = functools.partial(_linear_act, machine, act, shape, DTYPES[dtype])
    return Case("linear_act", name, build)


def _linear_act(
    machine: Machine, act: str, shape: tuple[int, int, int], dtype: torch.dtype
) -> Work:
    batch, fan_in, fan_out = shape
    x = torch.randn(batch, fan_in, device=machine.device, dtype=dtype)
    w = torch.randn(fan_out, fan_in, device=machine.device, dtype=dtype) / fan_in**0.5
    plain = getattr(F, act)
    written = x.element_size() * batch * fan_out
    # Of the products of bfloat16 no rate is known here: their limit is the memory's.
    flops = 2 * batch * w.numel() if dtype == torch.float32 else 0

    def measured(w: Tensor) -> list[Tensor]:
        z = F.linear(x, w)
        y = plain(z)
        return [y, *(row for t in (z, y, w) for row in statistics(t))]

    ours = in_turn(lambda w: ops.linear_act(x, w, act=act), w)
    theirs = in_turn(lambda w: plain(F.linear(x, w)), w)
    peer = Peer("torch.compile, with statistics", lambda: in_turn(compiled(measured), w))
    return Work(
        run=ours,
        references=[Reference("linear, then act", theirs, target=1.02)],
        peers=[peer] if x.is_cuda else [],
        limit=machine.limit(flops=flops, read=x.nbytes + w.nbytes, written=written),
    )


def in_turn(function: Callable[[Tensor], object], w: Tensor) -> Run:
    """The function of a weight; on a card of its copies in turn, which together fit no cache."""
    if not w.is_cuda:
        return lambda: function(w)
    copies = itertools.cycle([w.clone() for _ in range(1 + _CACHE // w.nbytes)])
    return lambda: function(next(copies))


def _act(machine: Machine, act: str, shape: tuple[int, int]) -> Work:
    z = torch.randn(shape, device=machine.device)
    plain = getattr(F, act)
    return Work(
        run=lambda: ops.act(z, act),
        references=[Reference(f"torch's {act}", lambda: plain(z))],
        limit=machine.limit(read=z.nbytes, written=z.nbytes),
    )
