"""report.explain(): the derivation with a layer's own numbers."""

import math

import pytest
import torch
from torch import nn

import initfast
from initfast.experiments.classic import exploding, steady
from initfast.stats.text import number
from initfast.theory.derivation import linear_stds, scale_steps


def report(std, *more, **options):
    net = nn.Sequential(nn.Linear(256, 256), *more)
    nn.init.normal_(net[0].weight, 0, std)
    return initfast.profile(net, torch.randn(512, 256), **options)


def plain(text):
    return " ".join(text.split())


@pytest.mark.parametrize("std, result", [(1.0, 16.0), (1 / 16, 1.0)])
def test_the_numbers_of_the_layer_at_hand(std, result):
    found = report(std)
    layer, text = found["0"], plain(found.explain("0"))
    x2, variance = layer.input.rms**2, layer.weight.moments.var
    assert f"Var(y) = 256 * {variance:.4g} * {x2:.4g} = {256 * variance * x2:.4g}" in text
    assert math.sqrt(256 * variance * x2) == pytest.approx(result, rel=0.02)
    assert f"Measured: the std of y is {number(layer.std)}, its rms" in text
    assert layer.std == pytest.approx(result, rel=0.03)


def test_n01_multiplies_by_16_and_one_over_fan_in_holds():
    text = plain(report(0.1).explain("0"))
    assert "Weights N(0, 1): Var(y) = 256 * 1 *" in text and "that is 16 times the rms of x" in text
    assert "Weights N(0, 1/fan_in): Var(y) = 256 * 0.003906 *" in text
    assert "that is 1 times the rms of x" in text


def test_the_activation_has_its_own_parameters_and_says_what_does_not_hold():
    gelu = plain(report(1 / 16, nn.GELU()).explain("0"))
    assert "That does not hold: a deviation of q from 1 is multiplied by 1.144" in gelu
    leaky = report(1 / 16, nn.LeakyReLU(0.5))
    q, text = leaky["0"].pre.rms ** 2, plain(leaky.explain("0"))
    assert f"E leaky_relu(y)^2 = {q * (1 + 0.25) / 2:.4g}" in text


def test_the_way_back_is_fan_out_var_w_and_the_mean_squared_slope():
    found = report(1 / 16, nn.ReLU(), backward="random")
    layer, text = found["0"], plain(found.explain("0"))
    factor = 256 * layer.weight.moments.var * 0.5
    assert f"* 0.5 = {factor:.4g}, its rms by {math.sqrt(factor):.4g}" in text
    assert "Measured at the output: rms" in text
    assert "Measured at the output" not in report(1.0).explain("0")


def test_what_nothing_is_derived_of_says_so():
    found = report(1 / 16, nn.LayerNorm(256))
    assert "no weight whose fan_in was measured" in plain(found.explain("1"))
    lstm = initfast.profile(nn.LSTM(8, 8), torch.randn(3, 4, 8))
    assert "several weights (weight_ih_l0" in plain(lstm.explain(""))
    with pytest.raises(KeyError, match="no layer is named 'nothing'"):
        found.explain("nothing")


def test_the_classic_curves_are_of_the_same_formula():
    assert exploding().predicted == linear_stds(256, 1.0, 100)
    assert linear_stds(256, 1.0, 100) == tuple(16.0**k for k in range(1, 101))
    assert steady().predicted == linear_stds(256, 1 / 256, 100) == (1.0,) * 100
    assert "the std of y is 16, that is 16 times" in scale_steps(256, 1.0)[-1]
