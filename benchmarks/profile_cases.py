"""``initfast.profile`` beside the plain forward of the same net, and beside its peers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from case import Case, Reference, Work
from peers import peers
from timing import Machine
from torch import nn

import initfast

# depth, width, batch, the most that a profile may cost as a multiple of the plain forward
_NETS = ((100, 256, 16, 0.70), (20, 1024, 256, 1.00), (4, 4096, 2048, 1.02))


def tanh_net(depth: int, width: int, device: torch.device) -> nn.Sequential:
    """Linear layers without biases, each followed by tanh, at a healthy scale."""
    torch.manual_seed(0)
    net = nn.Sequential()
    for _ in range(depth):
        linear = nn.utils.skip_init(nn.Linear, width, width, bias=False, device=device)
        nn.init.xavier_uniform_(linear.weight, gain=5 / 3)
        net.extend([linear, nn.Tanh()])
    return net


def cases(machine: Machine) -> Iterator[Case]:
    """The three nets of the README's table."""
    for depth, width, batch, target in _NETS:

        def build(
            depth: int = depth, width: int = width, batch: int = batch, target: float = target
        ) -> Work:
            net = tanh_net(depth, width, machine.device)
            x = torch.randn(batch, width, device=machine.device)
            weights = depth * width * width
            return Work(
                run=lambda: initfast.profile(net, x),
                references=[Reference("plain forward", lambda: net(x), target)],
                peers=peers(net, x),
                limit=machine.limit(flops=2 * batch * weights, read=4 * weights),
            )

        yield Case("profile", f"profile {depth} x {width} tanh, batch {batch}", build)
