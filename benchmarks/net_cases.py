"""``initfast.profile`` of nets that people train, and its cost for each output."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from case import Case, Reference, Work
from nets import GPT2, ResNet50
from peers import peers
from timing import Machine
from torch import Tensor, nn

import initfast

_MOST = 1.15  # a profile's time as a multiple of the plain forward's
_PER_OUTPUT = 15e-6  # seconds
_OUTPUTS = 200


def cases(machine: Machine) -> Iterator[Case]:
    """Whole nets; many small modules, of torch's and of the user's own."""
    device = machine.device

    def resnet() -> Work:
        x = torch.randn(8, 3, 224, 224, device=device)
        return _profile(ResNet50().to(device).eval(), x, _MOST)

    def gpt2() -> Work:
        tokens = torch.randint(50257, (2, 128), device=device)
        return _profile(GPT2().to(device).eval(), tokens, _MOST)

    yield Case("profile", "profile ResNet-50, batch 8", resnet)
    yield Case("profile", "profile GPT-2 small, batch 2 x 128", gpt2)
    for kind, name in ((nn.LayerNorm, "LayerNorms"), (OwnNorm, "modules of one's own")):

        def many(kind: type[nn.LayerNorm] = kind) -> Work:
            return _overhead(machine, kind)

        yield Case("overhead", f"profile {_OUTPUTS} small {name}", many)


class OwnNorm(nn.LayerNorm):
    """A module of the user's own: nobody knows what its forward does."""

    def forward(self, input: Tensor) -> Tensor:
        """As torch's."""
        return super().forward(input)


def _profile(net: nn.Module, x: Tensor, target: float, compiling: bool = True) -> Work:
    return Work(
        run=lambda: initfast.profile(net, x),
        references=[Reference("plain forward", lambda: net(x), target)],
        peers=peers(net, x, compiling),
    )


def _overhead(machine: Machine, kind: type[nn.LayerNorm]) -> Work:
    """Modules so small that all the time is overhead; the target allows so much for each."""
    net = nn.Sequential(*(kind(16) for _ in range(_OUTPUTS))).to(machine.device)
    x = torch.randn(4, 16, device=machine.device)
    plain = machine.best(lambda: net(x))
    target = 1 + _PER_OUTPUT * _OUTPUTS / plain
    return _profile(net, x, target, compiling=False)
