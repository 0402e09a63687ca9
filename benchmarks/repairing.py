"""What an audit and lsuv_ cost: ``python benchmarks/repairing.py``, in a minute or two.

An audit is held against one read of the parameters (`torch.sum` of each), lsuv_ against the plain
forward and against the algorithm of Mishkin & Matas 2016, which runs the net anew for each layer
until its output has a std of 1 within 0.1. Times are the process's, on one thread, and the least of
interleaved runs; torchvision gives the ResNet-50.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import initfast

TOLERANCE = 0.1
"""Of the paper's own code."""


def cpu(work: Callable[[], object]) -> float:
    """The process's seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


def least(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Of each work, run in turns."""
    return [min(times) for times in zip(*[map(cpu, works) for _ in range(repeats)], strict=True)]


def audit(parameters: int, repeats: int) -> None:
    """Square linear layers, of so many parameters together."""
    width = 4096
    net = nn.ModuleList(
        nn.Linear(width, width, bias=False, device="meta") for _ in range(parameters // width**2)
    ).to_empty(device="cpu")
    initfast.initialize_(net, seed=0)
    count = sum(p.numel() for p in net.parameters())
    own, read = least(
        repeats, lambda: initfast.audit(net), lambda: [p.sum() for p in net.parameters()]
    )
    print(f"audit of {count:.2e} parameters: {own:.3f} s, one read {read:.3f} s", end="; ")
    print(f"of 10^9: {own * 1e9 / count:.2f} s of one core")


def sequential(net: nn.Module, x: Tensor) -> int:
    """The paper's algorithm without its orthonormal start; returns how often the net ran."""
    forwards = 0
    for layer in net.modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        found: list[Tensor] = []
        handle = layer.register_forward_hook(lambda m, args, y, found=found: found.append(y))
        for _ in range(10):
            net(x)
            forwards += 1
            std = found.pop().std()
            if abs(std - 1) <= TOLERANCE:
                break
            layer.weight /= std
        handle.remove()
    return forwards


def lsuv(batch: int, size: int, repeats: int) -> None:
    """A ResNet-50 on random images."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    net, x = resnet50().eval(), torch.randn(batch, 3, size, size)
    other = copy.deepcopy(net)
    with torch.no_grad():
        forwards, began = sequential(other, x), time.process_time()
        sequential(copy.deepcopy(net), x)
        plain_way = time.process_time() - began
        own, forward = least(
            repeats,
            lambda: initfast.lsuv_(copy.deepcopy(net), x, tolerance=TOLERANCE),
            lambda: (copy.deepcopy(net), net(x)),
        )
    print(f"lsuv_ on a ResNet-50, {batch} x 3 x {size} x {size}: {own:.3f} s", end=", ")
    print(f"{own / forward:.2f} plain forwards; layer by layer {plain_way:.2f} s", end=", ")
    print(f"{plain_way / own:.0f} times as long, in {forwards} forwards")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=float, default=1e8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="of an image's side")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    audit(int(arguments.parameters), arguments.repeats)
    lsuv(arguments.batch, arguments.size, arguments.repeats)


if __name__ == "__main__":
    main()
