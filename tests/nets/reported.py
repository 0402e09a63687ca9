"""Small nets after public reports of training that fails: where the fault is, and what is said.

Each names the rule that must lead the findings, its layer, and words of it; nothing else may lead.
What has code must be cured by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Reported:
    """One net.

    Attributes:
        name: of the report's kind.
        net: builds it.
        x: builds its input.
        rule: that must lead the findings; "" where nothing may be said.
        layer: the name of the layer that it must begin at.
        says: what its text must hold.
        loss: of the net's output; None without one.
        cured: whether its code must cure.
    """

    name: str
    net: Callable[[], nn.Module]
    x: Callable[[], Any]
    rule: str = ""
    layer: str = ""
    says: tuple[str, ...] = ()
    loss: Callable[[Any], torch.Tensor] | None = None
    cured: bool = True


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


REPORTED = [
    Reported(
        "forget gates shut",
        lambda: Last(nn.LSTM, shut),
        data(4, 50, 8),
        "recurrent",
        "rnn",
        ("forget gates", "mean of -"),
    ),
    Reported(
        "an LSTM over 400 steps",
        lambda: Last(nn.LSTM),
        data(4, 400, 8),
        "recurrent",
        "rnn",
        ("over 400 steps",),
    ),
    Reported("the same by chrono", lambda: Last(nn.LSTM, chrono), data(4, 400, 8)),
    Reported("IRNN", lambda: Last(nn.RNN, irnn, nonlinearity="relu"), data(4, 60, 8)),
    Reported(
        "a GRU of inputs that nobody normalised",
        lambda: Last(nn.GRU),
        data(4, 50, 8, scale=500.0),
        "recurrent",
        "rnn",
        ("root mean square of 5", "of the gates are where they are flat"),
    ),
    Reported(
        "logits that nobody divided by sqrt(d)",
        lambda: Attention(1.0),
        data(8, 24, 256),
        "attention_logits",
        "",
        ("24 weights of a softmax", "sqrt(head dimension)"),
        cured=False,
    ),
    Reported("the same, divided", lambda: Attention(16.0), data(8, 24, 256)),
    Reported("a router", lambda: Experts(100.0), data(64, 32), "weight_scale", "router"),
    Reported("a router, sound", lambda: Experts(1.0), data(64, 32)),
    Reported(
        "a flow whose scales overflow",
        lambda: nn.Sequential(*[Coupling(20.0) for _ in range(8)]),
        data(16, 8),
        "weight_scale",
        "0.net.2",
        ("the worst of",),
    ),
    Reported(
        "bytes given to a classifier",
        classifier,
        lambda: 255 * torch.rand(64, 20),
        "input_scale",
        "0",
        ("root mean square of 14", "normalise the input"),
        classes,
    ),
    Reported("a length of zero", Normed, data(64, 8), "dead_units", "a.0"),
    Reported(
        "CTC, targets too long",
        lambda: nn.Linear(8, 6),
        data(4, 4, 8),
        "non_finite",
        "",
        ("4 labels and needs 5 steps, its input has 4", "zero_infinity"),
        ctc,
    ),
    Reported(
        "a weight norm of zeros",
        weight_norm_of_zero,
        data(8, 8),
        "non_finite",
        "0",
        ("8 of 8 rows of the weight's direction have a norm of 0",),
    ),
    Reported(
        "a softmax before cross_entropy",
        lambda: classifier(nn.Softmax(-1)),
        data(64, 20),
        "loss_arguments",
        "3",
        ("ends in softmax", "cross_entropy, takes softmax again"),
        classes,
    ),
    Reported(
        "log_softmax before cross_entropy",
        lambda: classifier(nn.LogSoftmax(-1)),
        data(64, 20),
        loss=classes,
    ),
    Reported(
        "a sigmoid before binary_cross_entropy_with_logits",
        lambda: classifier(nn.Sigmoid()),
        data(64, 20),
        "loss_arguments",
        "2",
        ("takes sigmoid again",),
        lambda y: F.binary_cross_entropy_with_logits(y, bits(y)),
    ),
    Reported(
        "a sigmoid before binary_cross_entropy",
        lambda: classifier(nn.Sigmoid()),
        data(64, 20),
        loss=lambda y: F.binary_cross_entropy(y, bits(y)),
    ),
    Reported(
        "a sigmoid before mse_loss",
        lambda: classifier(nn.Sigmoid()),
        data(64, 20),
        loss=lambda y: F.mse_loss(y, bits(y)),
    ),
    Reported(
        "nll_loss of logits",
        classifier,
        data(64, 20),
        "loss_arguments",
        "2",
        ("as nll_loss takes of log-probabilities", "they are none"),
        lambda y: F.nll_loss(y, torch.arange(64) % 10),
    ),
    Reported(
        "nll_loss of log_softmax",
        lambda: classifier(nn.LogSoftmax(-1)),
        data(64, 20),
        loss=lambda y: F.nll_loss(y, torch.arange(64) % 10),
    ),
    Reported(
        "returns of 5e4",
        classifier,
        data(64, 20),
        "loss_arguments",
        "2",
        ("the targets' mean is 5.00", "standardise the targets"),
        lambda y: F.mse_loss(y, 5e4 + torch.zeros_like(y)),
        cured=False,
    ),
    Reported(
        "the same as a sum",
        classifier,
        data(64, 20),
        "loss_arguments",
        "2",
        loss=lambda y: (y - 5e4).square().sum(),
        cured=False,
    ),
    Reported("returns of 5", classifier, data(64, 20), loss=lambda y: F.mse_loss(y, 5 + y * 0)),
    Reported(
        "a margin that is kept",
        classifier,
        data(64, 20),
        "no_gradient",
        "0",
        ("the loss, 0,", "hinge"),
        lambda y: (y - 100).relu().mean(),
        cured=False,
    ),
    Reported(
        "a sum over neighbours",
        lambda: Graph(lambda a: a),
        data(100, 32),
        "explosion",
        "layers.0",
        ("plain code between", "sum over neighbours", "divide by it there"),
    ),
    Reported("a mean over neighbours", lambda: Graph(lambda a: a / a.sum(1)), data(100, 32)),
    Reported(
        "SIREN by torch's default",
        Siren,
        lambda: 2 * torch.rand(256, 2) - 1,
        "gradient_explosion",
        "layers.1",
        ("not the weights",),
        lambda y: y.square().mean(),
    ),
    Reported(
        "a PReLU that starts at 5",
        lambda: nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(64, 64), nn.PReLU(1, 5))]),
        data(32, 64),
        "explosion",
        "0",
        ("prelu between",),
    ),
    Reported(
        "radial functions far from the data",
        lambda: Radial(30.0),
        data(64, 8),
        "constant_input",
        "head",
        ("all 1024 values of its input are 0", "before the first layer"),
        cured=False,
    ),
    Reported("radial functions", lambda: Radial(1.0), lambda: torch.randn(64, 8) / 2),
    Reported(
        "a timestep of up to 1000",
        Timed,
        lambda: (torch.randn(64, 2), torch.arange(64) * 15),
        "input_scale",
        "time",
        ("what plain code gives this layer has a root mean square of 5",),
    ),
    Reported(
        "a weight norm of length zero",
        weight_norm_of_length_zero,
        data(64, 8),
        "symmetric_units",
        "0",
        ("all weights are zero", "nothing of the input passes"),
        cured=False,
    ),
]
