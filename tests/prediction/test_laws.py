"""What theory makes of a signal, against many draws of the weights."""

import math
from statistics import fmean, pvariance

import pytest
import torch
from torch import nn

import initfast
from initfast.prediction.components import NONE, Components, new_component
from initfast.prediction.normal_moments import NormalMoments
from initfast.prediction.signal import Signal, measured
from initfast.stats.moments import Moments
from initfast.theory.hermite import correlated, hermite_squares
from initfast.theory.mesh import mesh
from initfast.theory.quadrature import Expectations

DRAWS = 60


def drawn(build, x):
    """Over many draws: ln of the measured mean square over the predicted, and its variances."""
    offs, chances = [], []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        last = initfast.profile(build(), x).predicted[-1]
        offs.append(2 * math.log(last.rms / last.cumulative.rms))
        chances.append(last.cumulative.chance)
    return offs, fmean(chances)


def residual():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(64, 64)

        def forward(self, x):
            return x + self.inner(x)

    return nn.Sequential(nn.Linear(64, 64), Block())


def with_mean():
    layer = nn.Linear(64, 64)
    nn.init.normal_(layer.weight, 0.2, 0.1)
    nn.init.normal_(layer.bias, 1.0, 0.5)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), layer)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(64), nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, x):
        x = self.norm(x)
        return self.attention(x, x, x, need_weights=False)[0]


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.units, self.places = nn.Linear(64, 64), nn.Linear(16, 32)

    def forward(self, x):
        return nn.functional.gelu(self.places(self.units(x).transpose(1, 2)))


SEEDED = torch.Generator().manual_seed(7)
X = torch.randn(8, 64, generator=SEEDED)
IMAGES = torch.randn(4, 3, 8, 8, generator=SEEDED)
ONE = X[:1]
TOKENS = torch.randn(4, 16, 64, generator=SEEDED)

CASES = {
    "linear": (lambda: nn.Linear(64, 32), X),
    "relu, one row": (lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU()), ONE),
    "tanh of large values": (
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh()),
        9 * X,
    ),
    "gelu, three layers": (
        lambda: nn.Sequential(
            *[m for _ in range(3) for m in (nn.Linear(64, 64), nn.GELU())], nn.Linear(64, 64)
        ),
        3 * X,
    ),
    "a mean of weights and biases": (with_mean, X),
    "a padded convolution": (lambda: nn.Conv2d(3, 16, 5, padding=2, stride=2), IMAGES),
    "a residual sum": (residual, X),
    "batch norm": (lambda: nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU()), X),
    "dropout": (lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.4)), X),
    "pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(32, 8, 1)
        ),
        IMAGES,
    ),
    "largest of four": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 8, 1)
        ),
        IMAGES,
    ),
    "a gate": (lambda: nn.Sequential(nn.Linear(64, 128), nn.GLU(), nn.Linear(64, 32)), X),
    "attention": (Attending, TOKENS),
    "a linear layer over places": (Mixing, TOKENS),
    "an embedding": (
        lambda: nn.Sequential(nn.Embedding(50, 64), nn.Linear(64, 64)),
        torch.arange(16),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_square_and_its_chance_are_those_of_many_draws(name):
    build, x = CASES[name]
    offs, chance = drawn(build, x)
    error = math.sqrt(max(pvariance(offs), chance) / DRAWS)
    assert abs(fmean(offs)) < 4 * error + 0.03
    assert 0.4 * pvariance(offs) - 0.002 < chance < 2.5 * pvariance(offs) + 0.002


def test_fifty_relu_layers_leave_as_much_to_chance_as_the_recursion_says():
    """torch's default: the biases hold the scale, and the elasticity is not the map's slope."""
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(50) for m in (nn.Linear(256, 256), nn.ReLU())])
    with torch.no_grad():
        for layer in net[::2]:
            layer.bias.zero_()
            nn.init.kaiming_normal_(layer.weight)
    last = initfast.profile(net, torch.randn(1, 256)).predicted[-1].cumulative
    assert last.chance == pytest.approx(50 * 5 / 256, rel=0.03)  # Hanin & Nica: 5/n a layer
    low, high = last.band(0.5)
    assert low * high == pytest.approx(last.rms**2) and math.log(high / low) > 0.5


def test_a_batch_narrows_the_band_until_its_rows_are_parallel():
    torch.manual_seed(0)
    chance = {}
    for act in (nn.Identity, nn.ReLU):
        net = nn.Sequential(
            *[m for _ in range(30) for m in (nn.Linear(128, 128, bias=False), act())]
        )
        for layer in net[::2]:
            nn.init.kaiming_normal_(
                layer.weight, nonlinearity="relu" if act is nn.ReLU else "linear"
            )
        for batch in (1, 64):
            found = initfast.profile(net, torch.randn(batch, 128)).predicted[-1]
            chance[act, batch] = found.cumulative.chance
    assert chance[nn.Identity, 64] < 0.3 * chance[nn.Identity, 1]
    assert chance[nn.ReLU, 64] > 0.6 * chance[nn.ReLU, 1]


def test_hermite_coefficients_make_the_correlation_map():
    at = Expectations(mesh("gelu"))
    squares = hermite_squares(at.z.ravel(), at.weight.ravel(), at.y.ravel())
    for c in (0.0, 0.3, 0.7, 1.0):
        expected = initfast.theory.correlation_map("gelu", c)
        assert correlated(squares, c) / at.second == pytest.approx(expected, rel=2e-3)


def test_a_signal_as_measured_has_the_moments_and_no_chance():
    m = Moments.of(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    x = Signal(0.0, 4.0, chance=0.5, components=Components({0: 2.0}, 1.0, 4.0)).as_measured(m)
    assert (x.mean, x.var, x.chance) == (3.0, 3.5, 0.0)
    assert x.square == pytest.approx(m.rms**2) and x.components.var == pytest.approx(3.5)
    assert x.fourth == pytest.approx((1 + 16 + 81 + 1296) / 4)
    assert measured(m, 4).common == pytest.approx(9 / 12.5)


def test_independent_tensors_make_up_the_covariance_of_sums():
    a, b = new_component(4.0), new_component(9.0)
    total = a.plus(b).scaled(0.5)
    assert a.covariance(b) == 0 and total.var == pytest.approx(13 / 4)
    assert total.covariance(a) == pytest.approx(2) and a.covariance(total) == pytest.approx(2)
    assert total.plus(a).var == pytest.approx(13 / 4 + 4 + 2 * 2)
    assert NONE.plus(b) == b and b.plus(b.scaled(-1)).var == 0


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "hardtanh", "sigmoid"])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.3, 0.06), (-4.0, 2.9), (900.0, 31.0)])
def test_shared_nodes_give_the_moments_that_nodes_of_ones_own_give(name, mean, std):
    own = Expectations(mesh(name), mean, std)
    z, weight, y = own.z.ravel(), own.weight.ravel(), own.y.ravel()
    found = NormalMoments.of(mesh(name), mean, std)
    d = (y - found.centre) / found.scale
    h3 = (z**3 - 3 * z) / math.sqrt(6)
    for j, of_power in enumerate(found.of_powers, start=1):
        assert of_power[0] == pytest.approx(float(weight @ d**j), rel=1e-9, abs=1e-14)
        assert of_power[3] == pytest.approx(float(weight @ (h3 * d**j)), rel=1e-9, abs=1e-13)
