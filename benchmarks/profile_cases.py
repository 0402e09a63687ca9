"""``initfast.profile`` beside the plain forward of the same net, and beside its peers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from case import Case, Reference, Work
from peers import peers
from timing import Machine
from torch import Tensor, nn

import initfast

# depth, width, batch, the most that a profile may cost as a multiple of the plain forward
_NETS = ((100, 256, 16, 0.60), (20, 1024, 256, 1.00), (4, 4096, 2048, 1.02))
_IN_A_LOOP = 0.80


def tanh_net(depth: int, width: int, device: torch.device) -> nn.Sequential:
    """Linear layers without biases, each followed by tanh, at a healthy scale."""
    torch.manual_seed(0)
    net = nn.Sequential()
    for _ in range(depth):
        linear = nn.utils.skip_init(nn.Linear, width, width, bias=False, device=device)
        nn.init.xavier_uniform_(linear.weight, gain=5 / 3)
        net.extend([linear, nn.Tanh()])
    return net


class Loop(nn.Module):
    """The same net with a forward of its own: ``for layer in layers: x = torch.tanh(layer(x))``."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.ModuleList(m for m in net if isinstance(m, nn.Linear))

    def forward(self, x: Tensor) -> Tensor:
        """x through all layers."""
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def cases(machine: Machine) -> Iterator[Case]:
    """The nets of the README's table, the first in both styles."""
    styles = [(nn.Sequential, sizes) for sizes in _NETS]
    styles.insert(1, (Loop, (*_NETS[0][:3], _IN_A_LOOP)))
    for style, (depth, width, batch, target) in styles:

        def build(
            style: type[nn.Module] = style,
            depth: int = depth,
            width: int = width,
            batch: int = batch,
            target: float = target,
        ) -> Work:
            net: nn.Module = tanh_net(depth, width, machine.device)
            net = Loop(net) if style is Loop else net
            x = torch.randn(batch, width, device=machine.device)
            weights = depth * width * width
            return Work(
                run=lambda: initfast.profile(net, x),
                references=[Reference("plain forward", lambda: net(x), target)],
                peers=peers(net, x),
                limit=machine.limit(flops=2 * batch * weights, read=4 * weights),
            )

        name = f"profile {depth} x {width} tanh, batch {batch}"
        yield Case("profile", name + (", in a loop" if style is Loop else ""), build)
