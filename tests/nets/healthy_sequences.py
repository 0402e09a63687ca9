"""Healthy nets on sequences, sets and graphs: recurrent, of state spaces, of experts."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from nets import healthy
from nets.healthy import Healthy, ids, mlp, normal
from torch import nn

ON_SEQUENCES: list[Healthy] = []
add = partial(healthy.add, to=ON_SEQUENCES)


class Recurrent(nn.Module):
    def __init__(self, kind: Any, **more: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.rnn, self.head = kind(32, 64, batch_first=True, **more), nn.Linear(64, 50)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embedding(x))[0])


class StateSpace(nn.Module):
    """A diagonal one: eigenvalues of e^-dt between 0.9 and 0.999, and a gate."""

    def __init__(self, d: int = 48) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.decay = nn.Parameter(torch.linspace(0.9, 0.999, d).logit())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, gate = self.inner(self.norm(x)).chunk(2, -1)
        a, h, states = torch.sigmoid(self.decay), torch.zeros_like(u[:, 0]), []
        for step in u.unbind(1):
            h = a * h + (1 - a) * step
            states.append(h)
        return x + self.outer(torch.stack(states, 1) * F.silu(gate))


class Experts(nn.Module):
    """A layer of four experts, of which each token takes the best two."""

    def __init__(self, d: int = 48) -> None:
        super().__init__()
        self.norm, self.router = nn.LayerNorm(d), nn.Linear(d, 4, bias=False)
        self.experts = nn.ModuleList(mlp([d, 2 * d, d], nn.GELU) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        best, which = self.router(h).softmax(-1).topk(2)
        weights = torch.zeros(*h.shape[:-1], 4).scatter(-1, which, best)
        return x + sum(weights[..., i : i + 1] * e(h) for i, e in enumerate(self.experts))


class Graph(nn.Module):
    """A convolution on a graph, of normalised neighbourhoods."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*s) for s in itertools.pairwise(sizes))

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        a = edges + torch.eye(len(edges))
        a = a / a.sum(1, keepdim=True)
        for layer in self.layers[:-1]:
            x = F.relu(a @ layer(x))
        return a @ self.layers[-1](x)


for kind in (nn.RNN, nn.LSTM, nn.GRU):
    add(kind.__name__, partial(Recurrent, kind), ids(50, 16, 24))
add("LSTM, two layers", partial(Recurrent, nn.LSTM, num_layers=2), ids(50, 16, 24))
add("state space", lambda: nn.Sequential(*[StateSpace() for _ in range(4)]), normal(4, 20, 48))
add("experts", lambda: nn.Sequential(*[Experts() for _ in range(4)]), normal(8, 16, 48))
add(
    "graph convolution",
    lambda: Graph([24, 64, 64, 5]),
    lambda: (torch.randn(60, 24), (torch.rand(60, 60) < 0.1).float()),
)
