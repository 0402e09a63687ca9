"""Gradients beside the plain forward and backward; a Profiler beside plain training steps."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from case import Case, Reference, Work
from profile_cases import Loop, tanh_net
from timing import Machine

import initfast

_NETS = ((100, 256, 16), (20, 1024, 256), (4, 4096, 2048))  # depth, width, batch
_EVERY = 100


def cases(machine: Machine) -> Iterator[Case]:
    """Gradients of the nets that are profiled too; steps of the one with the smallest layers."""
    for sizes in _NETS:
        yield gradients(machine, *sizes)
    yield gradients(machine, *_NETS[0], in_a_loop=True)
    yield steps(machine, *_NETS[0])


def gradients(
    machine: Machine, depth: int, width: int, batch: int, in_a_loop: bool = False
) -> Case:
    """One forward and backward with all gradients measured."""

    def build() -> Work:
        sequential = tanh_net(depth, width, machine.device)
        net = Loop(sequential) if in_a_loop else sequential
        parameters = list(net.parameters())
        x = torch.randn(batch, width, device=machine.device)
        weights = depth * width * width
        target = 0.85 if in_a_loop else 1.10

        def loss(y: torch.Tensor) -> torch.Tensor:
            return y.square().mean()

        @torch.enable_grad()
        def plain() -> object:
            return torch.autograd.grad(loss(net(x)), parameters)

        return Work(
            run=lambda: initfast.profile(net, x, loss=loss),
            references=[Reference("forward + backward", plain, target=target)],
            limit=machine.limit(
                flops=_flops(depth, width, batch), read=4 * weights, written=4 * weights
            ),
        )

    style = ", in a loop" if in_a_loop else ""
    return Case("gradients", f"gradients {depth} x {width} tanh, batch {batch}{style}", build)


def steps(machine: Machine, depth: int, width: int, batch: int) -> Case:
    """As many training steps as one call in is measured; the report at the end is not in it."""

    def build() -> Work:
        net = tanh_net(depth, width, machine.device)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
        x = torch.randn(batch, width, device=machine.device)

        @torch.enable_grad()
        def train() -> None:
            for _ in range(_EVERY):
                optimizer.zero_grad()
                net(x).square().mean().backward()
                optimizer.step()

        def profiled() -> None:
            with initfast.Profiler(net, every=_EVERY):
                train()

        return Work(
            run=profiled,
            references=[Reference(f"{_EVERY} training steps", train, target=1.02)],
            limit=machine.limit(flops=_EVERY * _flops(depth, width, batch)),
        )

    return Case("batches", f"batches {depth} x {width} tanh, batch {batch}, every {_EVERY}", build)


def _flops(depth: int, width: int, batch: int) -> int:
    """Of a forward and backward: three products a layer, without the gradient of the input."""
    return 2 * batch * width * width * (3 * depth - 1)
