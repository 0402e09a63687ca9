"""Small nets after public reports of training that fails, sound and at fault; see reported.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Last(nn.Module):
    """A recurrent module, and a head on its last output."""

    def __init__(self, kind, change=None, **more):
        super().__init__()
        self.rnn, self.head = kind(8, 32, batch_first=True, **more), nn.Linear(32, 1)
        if change is not None:
            with torch.no_grad():
                change(self.rnn)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def shut(rnn):
    rnn.bias_ih_l0.chunk(4)[1].fill_(-8.0)


def chrono(rnn):
    rnn.bias_ih_l0.chunk(4)[1].uniform_(1, 399).log_()
    rnn.bias_hh_l0.chunk(4)[1].zero_()


def irnn(rnn):
    nn.init.eye_(rnn.weight_hh_l0)
    nn.init.normal_(rnn.weight_ih_l0, 0, 1e-3)
    rnn.bias_ih_l0.zero_()
    rnn.bias_hh_l0.zero_()


class Attention(nn.Module):
    """One head of attention, its logits divided by a number."""

    def __init__(self, by):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(256, 256, bias=False) for _ in range(3))
        self.head, self.by = nn.Linear(256, 10), by
        for p in (self.q, self.k):
            nn.init.normal_(p.weight, 0, 256**-0.5)

    def forward(self, x):
        weights = (self.q(x) @ self.k(x).transpose(1, 2) / self.by).softmax(-1)
        return self.head((weights @ self.v(x)).mean(1))


class Experts(nn.Module):
    """A mixture of experts whose router's weights are so many times too large."""

    def __init__(self, factor):
        super().__init__()
        self.router = nn.Linear(32, 8, bias=False)
        self.router.weight.data.mul_(factor)
        self.experts = nn.ModuleList(nn.Linear(32, 4) for _ in range(8))

    def forward(self, x):
        gates = self.router(x).softmax(-1)
        return sum(gates[:, i : i + 1] * e(x) for i, e in enumerate(self.experts))


class Coupling(nn.Module):
    """A flow's affine coupling."""

    def __init__(self, factor):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4))
        self.net[2].weight.data.mul_(factor)

    def forward(self, x):
        a, b = x.chunk(2, -1)
        return torch.cat([b * self.net(a).exp(), a], -1)


class Graph(nn.Module):
    """A graph convolution net whose adjacency matrix is made by a function of the plain one."""

    def __init__(self, make):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)
        self.register_buffer("near", make((torch.rand(100, 100) < 0.3).float()))

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(self.near @ x))
        return x


class Siren(nn.Module):
    """Sines of 30 times what linear layers of torch's default make."""

    def __init__(self):
        super().__init__()
        sizes = zip((2, 128, 128, 128, 128), (128, 128, 128, 128, 128), strict=True)
        self.layers = nn.ModuleList(nn.Linear(*size) for size in sizes)
        self.head = nn.Linear(128, 1)

    def forward(self, x):
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        return self.head(x)


def classifier(*more):
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10), *more)


def dead(net):
    net[0].bias.data.fill_(-20.0)
    return net


class Normed(nn.Module):
    """Divides what a layer makes by its length."""

    def __init__(self):
        super().__init__()
        self.a = dead(nn.Sequential(nn.Linear(8, 8), nn.ReLU()))

    def forward(self, x):
        y = self.a(x)
        return y / y.norm(dim=-1, keepdim=True)


def ctc(y):
    targets = torch.tensor([[1, 1, 2, 3]] * 4)
    return F.ctc_loss(y.log_softmax(-1), targets, torch.full((4,), 4), torch.full((4,), 4))


class Radial(nn.Module):
    """Radial basis functions, and a layer on them."""

    def __init__(self, scale):
        super().__init__()
        self.centres = nn.Parameter(scale * torch.randn(16, 8))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.exp(-torch.cdist(x, self.centres).square() / 8))


class Timed(nn.Module):
    """A net that takes a timestep as it is."""

    def __init__(self):
        super().__init__()
        self.data, self.time = nn.Linear(2, 64), nn.Linear(1, 64)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t):
        return self.head(self.data(x) + self.time(t[:, None].float()))


def weight_norm_of_length_zero():
    net = nn.Sequential(
        torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 32)), nn.ReLU(), nn.Linear(32, 4)
    )
    net[0].parametrizations.weight.original0.data.zero_()
    return net


def weight_norm_of_zero():
    net = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU())
    net[0].parametrizations.weight.original1.data.zero_()
    return net


def data(*shape, scale=1.0):
    return lambda: scale * torch.randn(*shape)


def bits(y):
    return (torch.arange(y.numel()).view_as(y) % 2).to(y.dtype)


def classes(y):
    return F.cross_entropy(y, torch.arange(len(y)) % y.shape[1])
