"""The initialisers beside torch.nn.init's, and beside the memory's limit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from case import Case, Reference, Work
from timing import Machine
from torch import Tensor, nn

from initfast import init

# Initialiser, its arguments, and the targets: of torch's time, and of fill_'s (None: no target).
_ELEMENTWISE: tuple[tuple[str, tuple[float, ...], float | None, float | None], ...] = (
    ("uniform_", (), 1 / 10, 1 / 0.7),
    ("xavier_uniform_", (), 1 / 10, 1 / 0.7),
    ("kaiming_uniform_", (), 1 / 10, 1 / 0.7),
    ("normal_", (), 1 / 8, 1 / 0.4),
    ("xavier_normal_", (), 1 / 8, 1 / 0.4),
    ("kaiming_normal_", (), 1 / 8, 1 / 0.4),
    ("trunc_normal_", (0.0, 1.0, -2.0, 2.0), 1 / 60, 1 / 0.3),
    ("trunc_normal_", (0.0, 1.0, 2.0, 3.0), 1 / 500, 1 / 0.3),
    ("sparse_", (0.1,), 1 / 10, None),
)
_SIZE = 4096
_WIDTH = 2048  # of the model


def cases(machine: Machine) -> Iterator[Case]:
    """4096 x 4096 float32, other dtypes, a transposed view, orthogonal matrices, a whole model."""
    for name, arguments, of_torch, of_fill in _ELEMENTWISE:
        label = " ".join([name, *(f"{a:g}" for a in arguments)])
        build = functools.partial(_elementwise, machine, name, arguments, of_torch, of_fill)
        yield Case("samplers", f"{label}, {_SIZE} x {_SIZE}", build)
    for dtype in (torch.bfloat16, torch.float64):
        build = functools.partial(_elementwise, machine, "normal_", (), None, None, dtype)
        yield Case("samplers", f"normal_, {_SIZE} x {_SIZE} {str(dtype)[6:]}", build)
    build = functools.partial(_elementwise, machine, "normal_", (), None, None, transposed=True)
    yield Case("samplers", f"normal_, {_SIZE} x {_SIZE} transposed", build)
    for size in (2048, 4096):
        yield Case(
            "orthogonal", f"orthogonal_ {size}", functools.partial(_orthogonal, machine, size)
        )
    name = f"10^9 parameters, meta to {machine.device.type.upper()}"
    yield Case("model", name, functools.partial(_model, machine))


def _elementwise(
    machine: Machine,
    name: str,
    arguments: tuple[float, ...],
    of_torch: float | None,
    of_fill: float | None,
    dtype: torch.dtype = torch.float32,
    transposed: bool = False,
) -> Work:
    w = torch.empty(_SIZE, _SIZE, device=machine.device, dtype=dtype)
    w = w.t() if transposed else w
    ours, theirs = getattr(init, name), getattr(torch.nn.init, name)
    return Work(
        run=lambda: ours(w, *arguments),
        references=[
            Reference("torch.nn.init", lambda: theirs(w, *arguments), of_torch),
            Reference("fill_", lambda: w.fill_(0.5), of_fill),
        ],
        limit=machine.limit(written=w.nbytes),
    )


def _orthogonal(machine: Machine, size: int) -> Work:
    w = torch.empty(size, size, device=machine.device)
    return Work(
        run=lambda: init.orthogonal_(w),
        references=[Reference("torch.nn.init", lambda: nn.init.orthogonal_(w), 1 / 3)],
        limit=machine.limit(flops=4 * size**3 / 3),
    )


def _model(machine: Machine) -> Work:
    width, depth = _WIDTH, 20  # a transformer's matrices: 12 width^2 for each block
    with torch.device("meta"):
        blocks = [nn.Linear(width, 12 * width, bias=False) for _ in range(depth)]

    def materialise(initialise: Callable[[Tensor], object]) -> None:
        for block in blocks:
            block.to_empty(device=machine.device)
            initialise(block.weight)
        for block in blocks:
            block.to_empty(device="meta")

    written = 4 * sum(block.weight.numel() for block in blocks)
    return Work(
        run=lambda: materialise(init.kaiming_normal_),
        references=[
            Reference("torch.nn.init", lambda: materialise(nn.init.kaiming_normal_)),
            Reference("fill_", lambda: materialise(lambda w: nn.init.constant_(w, 0.5))),
        ],
        limit=machine.limit(written=written),
    )
