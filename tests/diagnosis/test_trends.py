"""The trend of a number along the layers of a net."""

import math

import pytest
import torch

from initfast.diagnosis.trends import trends


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.05, 1.2, 3.0])
def test_a_trend_is_found_among_outliers(rate):
    torch.manual_seed(0)
    values = [rate**i * math.exp(0.05 * torch.randn(()).item()) for i in range(40)]
    values[7] *= 30.0
    values[20] = 0.0
    whole = next(trends(values))
    assert (whole.first, whole.last) == (0, 39)
    assert whole.rate == pytest.approx(rate, rel=0.01)


def test_growth_as_a_root_of_the_depth_is_no_trend():
    for length in (6, 12, 24, 100):
        found = list(trends([math.sqrt(i + 1) for i in range(length)]))
        assert all(t.steps < 8 and 2 * t.log_ratio < math.log(10) for t in found)
    assert list(trends([1.0] * 30)) == []
    assert list(trends([])) == list(trends([math.nan, 0.0, 1.0, 2.0])) == []


def test_a_steep_stretch_is_found_within_a_flat_net():
    values = [1.0] * 10 + [2.0**i for i in range(1, 11)] + [1024.0] * 10
    stretch = next(t for t in trends(values) if t.rate > 1)
    assert (stretch.first, stretch.last) == (9, 19)
    assert stretch.rate == pytest.approx(2.0)


def test_a_jump_is_no_trend():
    assert list(trends([1.0] * 8 + [1.1, 1e5, 1.2e5] + [1.2e5] * 8)) == []
    assert list(trends([1.0, 1.2, 1e-5])) == []


def test_long_sequences_are_quick():
    trend = next(trends([1.01**i for i in range(5000)]))
    assert trend.rate == pytest.approx(1.01)


@pytest.mark.parametrize("start", [0.001, 0.03, 0.1])
def test_a_stream_that_begins_small_grows_as_a_root_and_is_no_trend(start):
    """As CLIP's does: embeddings of std 0.03, and branches of 0.2."""
    stream = [(start**2 + 0.04 * k) ** 0.5 for k in range(24)]
    assert not [t for t in trends(stream) if 2 * t.log_ratio > math.log(10)]
    assert [t for t in trends([start * 1.3**k for k in range(24)]) if t.log_ratio > 5]
