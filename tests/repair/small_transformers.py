"""Small nets whose laws are known, for audit()."""

import math

from torch import nn


def mlp(count=6, width=64):
    layers = [m for _ in range(count) for m in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers)


class Attention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d, d, bias=False) for _ in range(4))


class FeedForward(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.w1, self.w3 = (nn.Linear(d, 2 * d, bias=False) for _ in range(2))
        self.w2 = nn.Linear(2 * d, d, bias=False)


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.attention, self.feed_forward = Attention(d), FeedForward(d)
        self.norm = nn.RMSNorm(d)


class Decoder(nn.Module):
    """Everything normal of std 0.02, the head tied to the embedding."""

    def __init__(self, depth=6, d=64, vocabulary=500, tied=True):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d)
        self.positions = nn.Embedding(50, d)
        self.layers = nn.ModuleList(Block(d) for _ in range(depth))
        self.lm_head = nn.Linear(d, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        if tied:
            self.lm_head.weight = self.embedding.weight

    def scaled(self, *names):
        """These weights of every block scaled by 1 / √(2 (l + 1))."""
        for depth, block in enumerate(self.layers):
            for name in names:
                std = 0.02 / math.sqrt(2 * (depth + 1))
                nn.init.normal_(block.get_parameter(f"{name}.weight"), std=std)
        return self
