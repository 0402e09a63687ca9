"""Which dimension counts the units behind a convolution, however its output is laid out."""

import pytest
import torch
from torch import nn

import initfast


def correlation(rows):
    """Of rows [R, units]: the mean inner product of different ones over the mean square norm."""
    x = rows.double()
    square = x.square().sum()
    return ((x.sum(0).square().sum() - square) / ((len(x) - 1) * square)).item()


def rows(y, units):
    """y's values in float64, a row for each sample or position."""
    return y.movedim(units, -1).reshape(-1, y.shape[units])


@pytest.mark.parametrize(
    "after", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Dropout(), nn.Upsample(scale_factor=2)], ids=str
)
def test_what_follows_a_convolution_has_its_channels(after):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), after).eval()
    x = torch.randn(4, 3, 10, 10)
    with torch.no_grad():
        expected = correlation(rows(net(x).double(), 1))
    assert initfast.profile(net, x)[-1].correlation == pytest.approx(expected)


class Patches(nn.Conv2d):
    """[N, positions, channels] of an image."""

    def forward(self, x):
        return super().forward(x).flatten(2).transpose(1, 2)


class Averages(nn.Conv2d):
    """[N, channels] of an image."""

    def forward(self, x):
        return super().forward(x).mean((2, 3))


@pytest.mark.parametrize("kind", [Patches, Averages])
@pytest.mark.parametrize("more", [[], [nn.ReLU()]], ids=["alone", "relu"])
def test_a_convolution_that_lays_out_its_output_otherwise(kind, more):
    torch.manual_seed(0)
    net, x = nn.Sequential(kind(3, 8, 4, 4), *more), torch.randn(6, 3, 12, 12)
    with torch.no_grad():
        expected = correlation(rows(net(x).double(), -1))
    assert initfast.profile(net, x)[-1].correlation == pytest.approx(expected)
