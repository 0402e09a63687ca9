"""Gains, fans, and the initialisers that scale by them."""

import math
from typing import get_args

import pytest
import torch
from torch import nn

from initfast import init
from initfast.init.fans import FAN_MODES, AnyFanMode, Nonlinearity
from initfast.init.variance_scaling import TRUNCATED_STD
from initfast.ops.activations import ACTIVATIONS


def moments(x):
    x = x.double()
    return x.mean().item(), x.std().item()


@pytest.mark.parametrize(
    "name",
    ["linear", "relu", "leaky_relu", "tanh", "sigmoid", "selu", "conv2d", "conv_transpose3d"],
)
def test_gain_is_torchs(name):
    assert init.calculate_gain(name) == nn.init.calculate_gain(name)


def test_the_types_name_what_the_functions_take():
    names = get_args(Nonlinearity)
    assert len(names) == len(set(names)) and set(names) >= set(ACTIVATIONS)
    assert all(init.calculate_gain(name) > 0 for name in names)
    with pytest.raises(ValueError, match="expected one of " + ", ".join(sorted(names)) + "$"):
        init.calculate_gain("nothing")
    assert set(get_args(AnyFanMode)) == set(FAN_MODES)


def test_gain_of_a_slope():
    for slope in (0, 1, 0.3, -2.0):
        assert init.calculate_gain("leaky_relu", slope) == nn.init.calculate_gain(
            "leaky_relu", slope
        )
    for bad in (True, "0.1", [1]):
        with pytest.raises(ValueError, match="not a valid number"):
            init.calculate_gain("leaky_relu", bad)
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish; expected one of celu,"):
        init.calculate_gain("swish")


@pytest.mark.parametrize(
    "name, gain",
    [("gelu", 1.5335304411955368), ("silu", 1.6765324703310908), ("softsign", 2.3375333631069935)],
)
def test_where_torch_has_no_gain_it_is_theorys(name, gain):
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        nn.init.calculate_gain(name)
    assert init.calculate_gain(name) == pytest.approx(gain, rel=1e-12)
    assert init.calculate_gain(name, 0) == init.calculate_gain(name)


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_kaiming_takes_any_gain(name):
    fill = getattr(init, name)
    w = fill(torch.empty(40, 30), nonlinearity="relu", key=3)
    assert torch.equal(fill(torch.empty(40, 30), gain=math.sqrt(2), key=3), w)
    assert torch.equal(fill(torch.empty(40, 30), gain=0.0, key=3), torch.zeros(40, 30))
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"{name}: "):
            fill(torch.empty(40, 30), gain=bad)


def test_fans():
    assert init.fan_in_and_fan_out(torch.empty(8, 4, 3, 5)) == (60, 120)
    grouped = nn.Conv2d(12, 24, 3, groups=4).weight
    assert init.fan_in_and_fan_out(grouped, groups=4) == (3 * 9, 6 * 9)
    transposed = nn.ConvTranspose2d(12, 24, 3, groups=4).weight
    assert init.fan_in_and_fan_out(transposed, groups=4, transposed=True) == (3 * 9, 6 * 9)


SCALED = [
    ("xavier_uniform_", {"gain": 2.0}, lambda i, o: 2 * math.sqrt(2 / (i + o))),
    ("xavier_normal_", {"gain": 2.0}, lambda i, o: 2 * math.sqrt(2 / (i + o))),
    ("kaiming_uniform_", {"a": 1.0}, lambda i, o: math.sqrt(1 / i)),
    ("kaiming_normal_", {"mode": "FAN_OUT", "nonlinearity": "relu"}, lambda i, o: math.sqrt(2 / o)),
    ("lecun_uniform_", {}, lambda i, o: math.sqrt(1 / i)),
    ("lecun_normal_", {}, lambda i, o: math.sqrt(1 / i)),
    *(
        ("variance_scaling_", {"scale": 3.0, "mode": mode, "distribution": shape}, std)
        for shape in ("uniform", "normal", "truncated_normal")
        for mode, std in {
            "fan_in": lambda i, o: math.sqrt(3 / i),
            "fan_out": lambda i, o: math.sqrt(3 / o),
            "fan_avg": lambda i, o: math.sqrt(6 / (i + o)),
            "fan_geo_avg": lambda i, o: math.sqrt(3 / math.sqrt(i * o)),
        }.items()
    ),
]


@pytest.mark.parametrize("name, options, std", SCALED)
@pytest.mark.parametrize("shape", [(200, 400), (40, 60, 5, 7)])
def test_scale(name, options, std, shape):
    w = getattr(init, name)(torch.empty(shape), **options)
    count = w.numel()
    target = std(*init.fan_in_and_fan_out(w))
    mean, spread = moments(w)
    assert abs(mean) < 5 * target / math.sqrt(count)
    assert abs(spread / target - 1) < 5 / math.sqrt(count)
    if "uniform" in name or options.get("distribution") == "uniform":
        assert w.abs().max() <= math.sqrt(3) * target * (1 + 1e-6)
    if name == "lecun_normal_" or options.get("distribution") == "truncated_normal":
        assert w.abs().max() <= 2 * target / TRUNCATED_STD * (1 + 1e-6)
