"""Other tools that watch a net's activations, each attached to a copy of the net."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from case import Peer, Run
from torch import Tensor, nn


def peers(net: nn.Module, x: Tensor, compiling: bool = True) -> list[Peer]:
    """Every peer, to watch ``net(x)``; on a card also what compiles it, unless that is too long."""
    builders: dict[str, Callable[[nn.Module, Tensor], Run]] = {
        "std hook": std_hooks,
        "six-stat hooks": functools.partial(_hooks, _six_stats),
        "HF DebugUnderflowOverflow": _hugging_face,
        "TorchLens trace": _torchlens,
        "unit-scaling track_scales": _unit_scaling,
    }
    if x.is_cuda and compiling:
        builders["torch.compile, no statistics"] = lambda net, x: compiled(lambda: net(x))
    return [Peer(name, functools.partial(build, net, x)) for name, build in builders.items()]


def compiled(run: Callable[..., object]) -> Callable[..., object]:
    """The same by torch.compile; what was compiled before is forgotten, or would count as one."""
    torch.compiler.reset()
    return torch.compile(run, dynamic=False)


def statistics(y: Tensor) -> tuple[Tensor, ...]:
    """What initfast measures of a tensor, where it lies."""
    finite = torch.isfinite(y)
    wide = y.float()
    return wide.mean(), wide.std(), y.min(), y.max(), (y == 0).sum(), (~finite).sum()


def std_hooks(net: nn.Module, x: Tensor) -> Run:
    """The hook that people write first: ``y.std().item()`` at every module without children."""
    return _hooks(_std, net, x)


def _std(y: Tensor) -> tuple[float, ...]:
    return (y.std().item(),)


def _six_stats(y: Tensor) -> tuple[float, ...]:
    return (
        y.mean().item(),
        y.std().item(),
        y.min().item(),
        y.max().item(),
        (y == 0).sum().item(),
        (~torch.isfinite(y)).sum().item(),
    )


def _hooks(stats: Callable[[Tensor], tuple[float, ...]], net: nn.Module, x: Tensor) -> Run:
    """What people write by hand: a forward hook on every module that has no children."""
    net = copy.deepcopy(net)
    seen: list[tuple[float, ...]] = []
    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, args, y: seen.append(stats(y)))

    def run() -> None:
        seen.clear()
        net(x)

    return run


def _hugging_face(net: nn.Module, x: Tensor) -> Run:
    from transformers.debug_utils import DebugUnderflowOverflow

    net = copy.deepcopy(net)
    debugger = DebugUnderflowOverflow(net)

    def run(keep: object = debugger) -> None:
        net(x)

    return run


def _torchlens(net: nn.Module, x: Tensor) -> Run:
    import torchlens

    # Else torch's functions stay wrapped, and the plain forward beside it slows down too.
    options = torchlens.options.CaptureOptions(unwrap_when_done=True)
    net = copy.deepcopy(net)
    return lambda: torchlens.trace(net, x, capture=options)


def _unit_scaling(net: nn.Module, x: Tensor) -> Run:
    from unit_scaling.transforms import track_scales

    tracked = track_scales(copy.deepcopy(net))
    return lambda: tracked(x)
