"""Well-known architectures, small, initialised as by their authors and torch: nothing is wrong."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from nets.labelled import WIDTH, Case, add, normal
from nets.well_known_convnets import CONVOLUTIONAL, images, mixing
from torch import nn

OTHERS: list[Case] = []
case = partial(add, OTHERS)


def tokens(n=4, length=32, vocabulary=100):
    return lambda: torch.randint(vocabulary, (n, length))


class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x):
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.c_attn(x).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class GPTBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = Attention(d, 4)
        self.mlp = nn.Sequential(
            nn.Linear(d, 4 * d), nn.GELU(approximate="tanh"), nn.Linear(4 * d, d)
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """GPT-2's initialisation: 0.02, and 0.02 / √(2 blocks) at the end of each branch."""

    def __init__(self, depth=12, d=128, vocabulary=100, std=0.02):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, d), nn.Embedding(64, d)
        self.h = nn.ModuleList(GPTBlock(d) for _ in range(depth))
        self.ln_f, self.lm_head = nn.LayerNorm(d), nn.Linear(d, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, 0.0, std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.h:
            for last in (block.attn.c_proj, block.mlp[-1]):
                nn.init.normal_(last.weight, 0.0, std / math.sqrt(2 * depth))
        self.lm_head.weight = self.wte.weight

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


case("GPT-2", GPT, x=tokens())
case("GPT-2, 24 blocks, evaluation mode", lambda: GPT(24), x=tokens(), training=False)
case("GPT-2, N(0, 1)", lambda: GPT(6, std=1.0), "weight_scale", "explosion dtype_range", x=tokens())


class ViT(nn.Module):
    """Patches, torch's encoder layers, a head of zeros."""

    def __init__(self, norm_first=True, depth=6, d=96):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.position = nn.Parameter(0.02 * torch.randn(1, 64, d))
        layer = [
            nn.TransformerEncoderLayer(
                d, 4, 4 * d, 0.1, F.gelu, batch_first=True, norm_first=norm_first
            )
            for _ in range(depth)
        ]
        self.layers, self.norm, self.head = nn.ModuleList(layer), nn.LayerNorm(d), nn.Linear(d, 10)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


case("ViT", ViT, x=images(4))
case("ViT, evaluation mode", ViT, x=images(4), training=False)
case("Transformer, post-norm", lambda: ViT(norm_first=False), x=images(4))


class Mixer(nn.Module):
    def __init__(self, depth=8, d=96, n=64):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2 * depth))
        self.tokens = nn.ModuleList(mixing(n, 48) for _ in range(depth))
        self.channels = nn.ModuleList(mixing(d, 4 * d) for _ in range(depth))
        self.head = nn.Linear(d, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        for i, (tokens, channels) in enumerate(zip(self.tokens, self.channels, strict=True)):
            x = x + tokens(self.norms[2 * i](x).transpose(1, 2)).transpose(1, 2)
            x = x + channels(self.norms[2 * i + 1](x))
        return self.head(x.mean(1))


case("MLP-Mixer", Mixer, x=images(4))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.head = nn.Embedding(100, 64), nn.Linear(128, 100)
        self.rnn = kind(64, 128, 2, batch_first=True)

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0])


class Cell(nn.Module):
    """A tanh recurrence written out, one call of the same layer a step."""

    def __init__(self, variance):
        super().__init__()
        self.inner, self.outer = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        normal(variance)(self.inner.weight)

    def forward(self, x):
        h = torch.zeros_like(x)
        for _ in range(30):
            h = torch.tanh(self.inner(h) + self.outer(x))
        return h


case("LSTM", lambda: Recurrent(nn.LSTM), x=tokens())
case("GRU", lambda: Recurrent(nn.GRU), x=tokens())
case("a recurrence of 30 steps", lambda: Cell(1.0))

WELL_KNOWN = CONVOLUTIONAL + OTHERS
