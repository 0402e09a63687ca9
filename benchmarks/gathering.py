"""What a gathered report of a net with 70e9 parameters costs in messages and bytes, by ranks.

python benchmarks/gathering.py
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

import initfast
from initfast.report.gathering import listing_of, traffic
from initfast.report.listing import Listing

BLOCKS, WIDTH, HIDDEN = 80, 8192, 28672
"""Of a Llama of 70e9 parameters."""


class Block(nn.Module):
    """A decoder block: attention of one head, and a gated feed-forward network."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.input_norm, self.post_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down, self.act = nn.Linear(hidden, width, bias=False), nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        h = self.input_norm(x)
        attended = nn.functional.scaled_dot_product_attention(self.q(h), self.k(h), self.v(h))
        x = x + self.o(attended)
        h = self.post_norm(x)
        return x + self.down(self.act(self.gate(h)) * self.up(h))


SCALE = 1024
"""The net here is as deep as that one, and so many times narrower."""


def listing() -> Listing:
    """What a process says of a net as deep and as wide as the large one, with gradients."""
    width, hidden = WIDTH // SCALE, HIDDEN // SCALE
    blocks = [Block(width, hidden) for _ in range(BLOCKS)]
    head = nn.RMSNorm(width), nn.Linear(width, width, bias=False)
    net = nn.Sequential(nn.Embedding(16, width), *blocks, *head)
    x = torch.zeros(1, 4, dtype=torch.int64)
    small = listing_of(initfast.profile(net, x, loss=lambda y: y.square().mean()))
    tensors = {
        key: found._replace(
            units=found.units and SCALE * found.units,
            with_moments=found.with_moments and SCALE * found.with_moments,
        )
        for key, found in (small.tensors or {}).items()
    }
    return replace(small, tensors=tensors)


def main() -> None:
    """Print the table."""
    found = listing()
    print(f"{len(found.layers)} layers")
    print("| ranks | messages | bytes that a rank gets | were all rows gathered |")
    print("|---|---|---|---|")
    for ranks in (8, 64, 4096):
        cost = traffic([found], ranks)
        gathered = cost.received + (ranks - 2) * cost.rows
        print(f"| {ranks} | {cost.messages} | {cost.received:,} | {gathered:,} |")


if __name__ == "__main__":
    main()
