"""The last stage of a first contact with a card: profiles beside the plain forward."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from contact import Contact, host_seconds
from large_nets import ResNet50
from torch import Tensor, nn

import initfast


class Decoder(nn.Module):
    """One decoder layer: attention and a gated feed-forward part, each after an RMS norm."""

    def __init__(self, width: int, hidden: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, ``[batch, tokens, width]``."""
        a = self.norms[0](x)
        q, k, v = (f(a).unflatten(-1, (-1, self.head)).transpose(1, 2) for f in self._attention())
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(mixed.transpose(1, 2).flatten(-2))
        b = self.norms[1](x)
        return x + self.down(F.silu(self.gate(b)) * self.up(b))

    def _attention(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q, self.k, self.v


def profile(contact: Contact) -> bool:
    """Profiles beside the plain forward: seconds, launches, the host's microseconds an output."""
    device, passed = contact.device, []

    def measure(net: nn.Module, x: Tensor) -> dict[str, Any]:
        rounds = contact.size(10, 1)
        plain = host_seconds(lambda: net(x), device, rounds)
        ours = host_seconds(lambda: initfast.profile(net, x), device, rounds)
        outputs = len(initfast.profile(net, x))
        return {
            "outputs": outputs,
            "plain_ms": round(1e3 * plain[1], 3),
            "profile_ms": round(1e3 * ours[1], 3),
            "ratio": round(ours[1] / plain[1], 3),
            "host_us_per_output": round(1e6 * (ours[0] - plain[0]) / outputs, 1),
            "kernels": launches(net, x) if device.type == "cuda" else None,
        }

    def line(name: str, net: nn.Module, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        net, x = net.to(device, dtype), contact.randn(*shape, dtype=dtype)
        passed.append(contact.attempt("profile", name, lambda: measure(net, x)))

    def deep(depth: int, width: int) -> nn.Module:
        layers = [(nn.Linear(width, width, bias=False), nn.Tanh()) for _ in range(depth)]
        return nn.Sequential(*[m for pair in layers for m in pair])

    depth, width, blocks = contact.size(100, 4), contact.size(4096, 64), contact.size(32, 2)
    with torch.no_grad():
        line("100 x 256 tanh, batch 16", deep(depth, 256), 16, 256)
        line("20 x 1024 tanh, batch 256", deep(contact.size(20, 2), 1024), 256, 1024)
        line("ResNet-50, batch 8", ResNet50(), contact.size(8, 2), 3, *[contact.size(224, 64)] * 2)
        layers = [Decoder(width, width * 11 // 4, width // 32) for _ in range(blocks)]
        decoder = nn.Sequential(*layers)
        for tokens in (1, 128, contact.size(2048, 8)):
            name = f"decoder {blocks} x {width} bf16, 1 x {tokens}"
            line(name, decoder, 1, tokens, width, dtype=torch.bfloat16)
    return all(passed)


def launches(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """How many kernels a profile launches, and those that take longest, with their microseconds."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    with watch(activities=[ProfilerActivity.CUDA]) as seen:
        initfast.profile(net, x)
        torch.cuda.synchronize()
    found = sorted(seen.key_averages(), key=lambda kernel: -kernel.device_time_total)
    longest = [(k.key[:60], k.count, round(k.device_time_total)) for k in found[:10]]
    return {"launches": sum(k.count for k in found), "longest": longest}
