"""The classic experiments show the figures that theory predicts.

A figure that scatters from draw to draw is held as a mean over SEEDS.
"""

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch

from initfast import experiments
from initfast.experiments import EXPERIMENTS
from initfast.experiments.deep_net import BATCH, DEPTH, WIDTH

SEEDS = range(8)


@functools.cache
def results(name):
    return [EXPERIMENTS[name](seed) for seed in SEEDS]


def stds_by_seed(name, label):
    """[seed, layer]"""
    return np.array([result.stds[label] for result in results(name)])


def geometric_mean(values):
    return np.exp(np.log(values).mean(axis=0))


def normal_expectation(f):
    """E[f(Z)] by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    return (weights * f(nodes)).sum() / weights.sum()


def tanh_mean_field(gain):
    q, stds = 1.0, []
    for _ in range(DEPTH):
        root = gain * math.sqrt(q)
        q = normal_expectation(lambda z, root=root: np.tanh(root * z) ** 2)
        stds.append(math.sqrt(q))
    return np.array(stds)


def test_exploding_grows_16_fold_a_layer_until_it_overflows():
    for result in results("exploding"):
        measured = result.stds["measured"]
        assert measured[:3] == pytest.approx([16, 256, 4096], rel=0.06)
        # A normal batch of 4096 reaches 3 to 4.5 sigma, and 16^32 = 2^128 is float32's end.
        assert len(measured) in (30, 31, 32)
        assert result.first_nonfinite == f"layers.{len(measured)}"
        assert f"layer {len(measured) + 1}" in result.lesson
    rates = [result.stds["measured"][29] ** (1 / 30) for result in results("exploding")]
    assert geometric_mean(rates) == pytest.approx(math.sqrt(WIDTH), rel=0.01)
    assert results("exploding")[0].predicted[:3] == (16, 256, 4096)


def test_the_stds_are_those_of_a_plain_float64_forward():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(BATCH, WIDTH, generator=generator).double()
    expected = []
    for _ in range(30):
        x = x @ torch.randn(WIDTH, WIDTH, generator=generator).double().T
        expected.append(x.std().item())
    assert experiments.exploding(3).stds["measured"][:30] == pytest.approx(expected, rel=1e-4)


def test_steady_stays_within_a_factor_of_1_25_of_1():
    mean = geometric_mean(stds_by_seed("steady", "measured"))
    assert len(mean) == DEPTH
    assert mean.min() > 1 / 1.25 and mean.max() < 1.25


def test_steady_as_shown_by_default_does_too():
    stds = results("steady")[0].stds["measured"]
    assert min(stds) > 1 / 1.25 and max(stds) < 1.25


def test_fading_follows_the_mean_field_map_towards_zero():
    mean = stds_by_seed("fading", "measured").mean(axis=0)
    assert mean[:4] == pytest.approx([0.628, 0.486, 0.406, 0.354], rel=0.02)
    assert mean[:10] == pytest.approx(tanh_mean_field(1.0)[:10], rel=0.02)
    assert (np.diff(mean[[0, 1, 2, 3, 9, 29, 99]]) < 0).all()
    assert mean[-1] < 0.1
    assert results("fading")[0].predicted == pytest.approx(tanh_mean_field(1.0), rel=1e-6)


@pytest.mark.parametrize("label", ["by hand", "xavier_uniform_"])
def test_xavier_settles_at_the_fixed_point_of_tanh(label):
    stds = stds_by_seed("xavier", label)
    predicted = tanh_mean_field(5 / 3)
    assert predicted[-1] == pytest.approx(0.65, abs=0.005)
    assert stds[:, 20:].mean() == pytest.approx(predicted[-1], rel=0.005)
    assert stds[:, 20:].min() > 0.6 and stds[:, 20:].max() < 0.7
    assert results("xavier")[0].predicted == pytest.approx(predicted, rel=1e-6)


@pytest.mark.parametrize("label", [f"N(0, 2/{WIDTH})", "kaiming_normal_"])
def test_kaiming_holds_the_scale_under_relu(label):
    """log(std) drifts by -5/(4n) a layer, and has a variance of 5/(4n) a layer, at width n."""
    mean = geometric_mean(stds_by_seed("kaiming", label))
    drift = -5 / (4 * WIDTH) * np.arange(1, DEPTH + 1)
    spread = np.sqrt(-drift / len(SEEDS))
    deviation = np.log(mean) - math.log(math.sqrt(1 - 1 / math.pi)) - drift
    assert (np.abs(deviation) < 4 * spread).all()


def test_kaiming_without_the_2_halves_the_variance_at_every_layer():
    result = experiments.kaiming(5)
    ratio = np.divide(result.stds[f"N(0, 1/{WIDTH})"], result.stds[f"N(0, 2/{WIDTH})"])
    assert ratio == pytest.approx(2.0 ** (-np.arange(1, DEPTH + 1) / 2), rel=1e-3)


def test_the_gain_of_tanh():
    exact = normal_expectation(lambda z: np.tanh(z) ** 2) ** -0.5
    assert exact == pytest.approx(1.5925, abs=5e-5)
    assert results("gain")[0].exact == pytest.approx(exact, rel=1e-6)
    assert np.mean([result.measured for result in results("gain")]) == pytest.approx(
        exact, abs=4e-3
    )
    assert results("gain")[0].table == 5 / 3


def test_a_product_of_random_matrices_grows_at_the_lyapunov_rate():
    draws = results("product")
    assert draws[0].predicted == pytest.approx(0.558, abs=5e-4)
    error = math.hypot(*(result.error for result in draws)) / len(SEEDS)
    assert error < 6e-4
    mean = np.mean([result.rate for result in draws])
    assert mean == pytest.approx(draws[0].predicted, abs=4 * error)
    # One draw's logarithm is 55.8 with a std of 4, from the trigamma function at 2.
    columns = [np.linalg.norm(np.array(result.draw)[:, 0]) for result in draws]
    assert np.abs(np.log(columns) - 55.8).max() < 5 * 4.0


def test_the_derivative_of_the_sigmoid_vanishes_at_both_ends():
    result = experiments.sigmoid()
    x, slope = np.array(result.x), np.array(result.slope)
    value = 1 / (1 + np.exp(-x))
    assert x == pytest.approx(-8 + 0.1 * np.arange(160), abs=1e-12)
    assert result.value == pytest.approx(value, rel=1e-12)
    assert slope == pytest.approx(value * (1 - value), rel=1e-9)
    assert x[slope.argmax()] == 0 and slope.max() == 0.25
    assert slope[0] < 4e-4 and slope[-1] < 4e-4


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_seed_decides_the_figures_and_nothing_global_moves(name):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first, again = EXPERIMENTS[name](11), EXPERIMENTS[name](11)
    assert str(first) == str(again)
    if name != "sigmoid":
        assert str(EXPERIMENTS[name](12)) != str(first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.lesson = ""


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_printed_fits_and_aligns(name, seed):
    result = EXPERIMENTS[name](seed)
    lines = str(result).splitlines()
    assert lines[0] == result.title and lines[-1].strip() == result.source
    assert lines[-2].strip() == result.lesson
    assert max(map(len, lines)) <= 100
    table = lines[1:-2]
    assert len({len(line) for line in table}) == 1
    assert str(result).isascii()


def test_they_work_where_gradients_are_off():
    with torch.inference_mode():
        assert experiments.sigmoid().slope == experiments.sigmoid().slope
    with torch.no_grad():
        assert max(experiments.sigmoid().slope) == 0.25
