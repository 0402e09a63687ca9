"""Small nets written as people write them, whose parameters' places are known."""

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.num_heads, self.embed_dim = heads, d
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(d, d, bias=False) for _ in range(4)
        )

    def forward(self, x):
        q, k, v = (
            f(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for f in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.w1, self.w3 = nn.Linear(d, f, bias=False), nn.Linear(d, f, bias=False)
        self.w2 = nn.Linear(f, d, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Plain(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(d, f), nn.GELU(), nn.Linear(f, d)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, d, f, gated, norms):
        super().__init__()
        self.attention = Attention(d, 4)
        self.feed_forward = Gated(d, f) if gated else Plain(d, f)
        self.norm1, self.norm2 = (nn.LayerNorm(d) if norms else nn.Identity() for _ in range(2))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Decoder(nn.Module):
    """N blocks of width d, feed-forward width f, of the kind of Llama or, not gated, of GPT-2."""

    def __init__(self, d=64, f=96, n=3, vocabulary=80, gated=True, norms=True, tied=False):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocabulary, d, padding_idx=0)
        self.layers = nn.ModuleList(Block(d, f, gated, norms) for _ in range(n))
        self.norm = nn.LayerNorm(d) if norms else nn.Identity()
        self.lm_head = nn.Linear(d, vocabulary, bias=False)
        if tied:
            self.lm_head.weight = self.tok_embeddings.weight

    def forward(self, tokens):
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


class Residual(nn.Module):
    def __init__(self, c, norms):
        super().__init__()
        self.conv1 = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(c) if norms else nn.Identity()
        self.conv2 = nn.Conv2d(c, c, 3, padding=1, groups=4, bias=False)
        self.norm2 = nn.BatchNorm2d(c) if norms else nn.Identity()

    def forward(self, x):
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + x)


class ResNet(nn.Module):
    def __init__(self, c=32, n=4, norms=True):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(c, norms) for _ in range(n)))
        self.fc = nn.Linear(c, 10)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((-2, -1)))
