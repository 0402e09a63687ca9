"""``initfast.profile`` of nets that people train, and its cost for each output."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import torch
from case import Case, Reference, Work
from large_nets import GPT2, ResNet50
from peers import peers, std_hooks
from timing import Machine
from torch import Tensor, nn

import initfast

_OUTPUTS = 200


def cases(machine: Machine) -> Iterator[Case]:
    """Whole nets; many small modules, of torch's and of the user's own."""
    device = machine.device

    def resnet() -> Work:
        x = torch.randn(8, 3, 224, 224, device=device)
        return _profile(ResNet50().to(device).eval(), x, 1.10)

    def gpt2() -> Work:
        tokens = torch.randint(50257, (2, 128), device=device)
        return _profile(GPT2().to(device).eval(), tokens, 1.15)

    def encoder() -> Work:
        layer = nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True)
        net = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).to(device)
        return _profile(net, torch.randn(4, 32, 256, device=device), 1.15)

    yield Case("profile", "profile ResNet-50, batch 8", resnet)
    yield Case("profile", "profile GPT-2 small, batch 2 x 128", gpt2)
    yield Case("profile", "profile nn.TransformerEncoder, 6 x 256, batch 4 x 32", encoder)
    if importlib.util.find_spec("transformers") is not None:
        yield Case("profile", "profile Llama of 4 x 256, batch 1 x 32", lambda: _llama(device))
    for kind, name, target in (
        (nn.LayerNorm, "LayerNorms", 1.0),
        (OwnNorm, "modules of one's own", 1.3),
    ):

        def many(kind: type[nn.LayerNorm] = kind, target: float = target) -> Work:
            return _overhead(machine, kind, target)

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


def _llama(device: torch.device) -> Work:
    """A small one of transformers: most of its layers are modules that nobody knows."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    net = transformers.LlamaForCausalLM(config).to(device)
    return _profile(net, torch.randint(1000, (1, 32), device=device), 1.5)


def _overhead(machine: Machine, kind: type[nn.LayerNorm], target: float) -> Work:
    """Modules so small that all the time is overhead, beside what a hook with std costs."""
    net = nn.Sequential(*(kind(16) for _ in range(_OUTPUTS))).to(machine.device)
    x = torch.randn(4, 16, device=machine.device)
    return Work(
        run=lambda: initfast.profile(net, x),
        references=[
            Reference("plain forward", lambda: net(x)),
            Reference("std hook", std_hooks(net, x), target),
        ],
        peers=peers(net, x, compiling=False),
    )
