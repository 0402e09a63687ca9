"""Nets for the tests of a profile with a loss, and the gradients that torch alone finds in them."""

import math

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import WIDTH
from torch import nn

from initfast.nets.activation_calls import MODULES
from initfast.stats.moments import Moments


def loss_of(y):
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return (y * weights).sum() + y.pow(2).sum()


class Points(nn.Module):
    """A net that keeps what should become the layers of its report."""

    def point(self, t):
        self.points.append(t)
        return t


class Functional(Points):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH, bias=False)

    def forward(self, x):
        h = self.point(F.gelu(F.linear(x, self.first.weight, self.first.bias)))
        return self.point(torch.sigmoid(F.linear(h, self.second.weight)))


class Residual(Points):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        for _ in range(2):  # shared modules
            branch = self.point(self.down(self.point(self.up(x).relu())))
            x = x + branch
            x = self.point(x)
        return self.point(self.norm(x))


class Looping(Points):
    def __init__(self):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        for linear in self.linears:
            x = linear(x)
            x = self.point(torch.relu_(x))
        return x


class Recurrent(Points):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, 5, num_layers=2)

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        self.points += [y, h, c]
        return self.point(torch.cat([y.flatten(), h.flatten(), c.flatten()]))


class Straight(nn.Sequential):
    """A plain Sequential in all but that it keeps its points; an activation joins its layer."""

    def forward(self, x):
        for child, after in zip(self, [*list(self)[1:], None], strict=True):
            x = child(x)
            joins = isinstance(child, (nn.Linear, nn.Conv2d, nn.BatchNorm2d))
            if not (joins and type(after) in MODULES):
                self.points.append(x)
        return x


def convolutional():
    return (
        nn.Unflatten(1, (3, 2, 2)),
        nn.Conv2d(3, 5, 2, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.Conv2d(5, 4, 1),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 4),
    )


def perceptron():
    activations = (nn.Tanh(), nn.LeakyReLU(0.1), nn.GELU(), nn.Softplus(2.0))
    return [m for act in activations for m in (nn.Linear(WIDTH, WIDTH), act)] + [
        nn.Linear(WIDTH, 3)
    ]


NETS = {
    "sequential": lambda: nn.Sequential(*perceptron()),
    "convolutional": lambda: nn.Sequential(*convolutional()),
    "loop": Looping,
    "functional": Functional,
    "residual": Residual,
    "recurrent": Recurrent,
}


def make(name, dtype=torch.float64):
    torch.manual_seed(4)
    net = NETS[name]().to(dtype).eval()
    net.points = []
    return net


def truth_of(net, x, loss=loss_of):
    """By torch alone: the gradients at the points, in order, and of every parameter by name."""
    plain = Straight(*net) if isinstance(net, nn.Sequential) else net
    plain.points = []
    value = loss(plain(x))
    points, plain.points = plain.points, []
    parameters = dict(net.named_parameters())
    wanted = [t for t in [*points, *parameters.values()] if t.requires_grad]
    found = iter(torch.autograd.grad(value, wanted, allow_unused=True))
    at_points = [next(found) if t.requires_grad else None for t in points]
    return at_points, {n: next(found) for n, p in parameters.items() if p.requires_grad}


def assert_close(moments, truth, rel=1e-11):
    expected = Moments.of(truth.double().contiguous())
    scale = abs(expected.mean) + (0 if math.isnan(expected.std) else expected.std) + 1e-300
    assert (moments.count, moments.nonfinite) == (expected.count, expected.nonfinite)
    for name in ("mean", "min", "max"):
        assert abs(getattr(moments, name) - getattr(expected, name)) <= rel * scale, name
    assert moments.m2 == pytest.approx(expected.m2, rel=100 * rel)


def assert_true(report, net, truth, rel=1e-11):
    at_points, weights = truth
    assert len(report) == len(at_points)
    for layer, grad in zip(report, at_points, strict=True):
        if grad is None:
            assert layer.grad is None
        else:
            assert_close(layer.grad, grad, rel)
        weight = weights.get(f"{layer.name}.weight")
        if weight is not None and layer.weight is not None:
            assert_close(layer.weight_grad, weight, rel)
            expected = layer.weight_grad.std / layer.weight.std
            assert layer.grad_to_weight == pytest.approx(expected)
        else:
            assert layer.weight_grad is None
