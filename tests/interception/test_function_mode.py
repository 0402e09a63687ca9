"""Fusion: every spelling of an activation, alone and after a linear layer."""

import math
from functools import partial
from inspect import signature
from types import FunctionType

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import close, linear, run, same, x_of
from torch import Tensor, nn

from initfast.ops.activations import ACTIVATIONS
from initfast.profiling.profile import profile

OTHER_SPELLINGS = {
    "relu": [
        lambda z: F.relu(z, True),
        lambda z: z.clamp(min=0),
        lambda z: z.clamp_(0),
        lambda z: torch.clamp(z, 0),
        lambda z: z.clamp_min(0),
        lambda z: torch.clamp_min_(z, 0.0),
        lambda z: z.clip(min=0),
    ],
    "sigmoid": [torch.special.expit],
    "leaky_relu": [lambda z: F.leaky_relu(z, negative_slope=0.3, inplace=True)],
    "relu6": [lambda z: F.hardtanh(z, 0, 6), nn.Hardtanh(0.0, 6.0)],
    "gelu": [lambda z: F.gelu(z, approximate="none")],
    "gelu_tanh": [nn.GELU("tanh"), lambda z: F.gelu(z, approximate="tanh")],
    "softplus": [nn.Softplus(2.0, 1.0), lambda z: F.softplus(z, threshold=0.5)],
    "hardtanh": [lambda z: F.hardtanh_(z, min_val=-2.0)],
}


def spellings(act):
    """The functions and modules of an activation, with and without numbers, in place and not."""
    entry = ACTIVATIONS[act]
    owners = [(owner, act + end) for owner in (torch, Tensor, F) for end in ("", "_")]
    functions = dict.fromkeys(getattr(*place) for place in owners if hasattr(*place))
    examples = [numbers[: len(entry.parameters)] for numbers in entry.examples]
    for function in functions:
        yield function
        for numbers in examples:
            yield lambda z, function=function, numbers=numbers: function(z, *numbers)
            yield partial(function, **dict(zip(entry.parameters, numbers, strict=True)))
        if isinstance(function, FunctionType) and "inplace" in signature(function).parameters:
            yield partial(function, inplace=True)
    if entry.module is not None:
        switches = [{}] + [{"inplace": True}] * ("inplace" in signature(entry.module).parameters)
        for numbers in [(), *examples]:
            yield from (entry.module(*numbers, **switch) for switch in switches)
    yield from OTHER_SPELLINGS.get(act, ())


SPELLINGS = {act: list(spellings(act)) for act in ACTIVATIONS if act != "identity"}


def test_torch_spells_every_activation():
    assert all(SPELLINGS.values())


@pytest.mark.parametrize("act, k", [(a, k) for a, fs in SPELLINGS.items() for k in range(len(fs))])
def test_every_spelling_fuses_and_stands_alone(act, k):
    function, layer, x = SPELLINGS[act][k], linear(), x_of(4, 5)
    same(lambda x: function(layer(x)), x, ops=[f"linear + {act}"])
    same(lambda x: function(x) * 2, x, ops=[act])
    same(lambda x: function(x.to(torch.float64)), x, ops=[act])


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z.clamp(min=0.1),
        lambda z: z.clamp(0, 1),
        lambda z: z.clamp(max=0),
        lambda z: torch.clamp(z, min=torch.zeros(())),
        lambda z: torch._C._nn.elu(z, 1.0, 2.0),
        lambda z: torch.tanh(z, out=torch.empty(4, 7)),
    ],
)
def test_other_uses_are_not_taken_for_an_activation(function):
    layer = linear()
    same(lambda x: function(layer(x)), x_of(4, 5), ops=["linear"])


@pytest.mark.parametrize(
    "function, op",
    [
        (lambda z: F.softmax(z, -1), "softmax"),
        (lambda z: z.softmax(-1), "softmax"),
        (lambda z: torch.log_softmax(z, dim=0), "log_softmax"),
        (lambda z: F.threshold(z, 0, 0), "threshold"),
        (lambda z: F.prelu(z, torch.tensor([0.1])), "prelu"),
        (lambda z: F.tanhshrink(z), "tanhshrink"),
        (nn.Softmax(-1), "softmax"),
        (nn.Hardshrink(), "hardshrink"),
    ],
)
def test_activations_that_the_operators_do_not_know_are_measured(function, op):
    layer = linear()
    report = same(lambda x: function(layer(x)), x_of(4, 5), ops=["linear", op])
    close(report.layers[1].post, run(lambda x: function(layer(x)), x_of(4, 5))[0].double())
    assert report.layers[1].input == report.layers[0].post


@pytest.mark.parametrize(
    "module", [nn.CELU(-1.0), nn.CELU(math.nan), nn.LeakyReLU(torch.tensor(0.1))]
)
def test_numbers_that_the_operators_refuse_are_left_to_torch(module):
    net, x = nn.Sequential(linear(), module), x_of(4, 5)
    report = same(net, x, ops=["linear", type(module).__name__])
    close(report.layers[1].post, net(x).detach().double())
    same(lambda x: module(net[0](x)), x)


@pytest.mark.parametrize(
    "function, error",
    [
        (lambda z: F.hardtanh(z, 1.0, -1.0), ValueError),
        (lambda z: F.celu(z, 0.0), RuntimeError),
        (lambda z: F.gelu(z, approximate="other"), RuntimeError),
        (lambda z: torch.tanh(z, 1), TypeError),
        (lambda z: F.tanh(z, True), TypeError),
        (lambda z: F.leaky_relu_(z, 0.1, True), TypeError),
        (lambda z: torch.sigmoid(z, inplace=True), TypeError),
        (lambda z: F.relu(z, bad=1), TypeError),
    ],
)
def test_an_activation_called_wrongly_raises_what_torch_raises(function, error):
    layer = linear()
    with pytest.raises(error):
        profile(lambda x: function(layer(x)), x_of(4, 5))


# ---- the pre-activation used otherwise, and again ----


def test_linear_alone_is_measured_when_used():
    layer = linear()
    same(lambda x: layer(x) + 1, x_of(4, 5), ops=["linear"])
    same(lambda x: layer(x), x_of(4, 5), ops=["linear"])
    same(lambda x: (layer(x), None)[1] or x, x_of(4, 5), ops=["linear"])


def test_pre_activation_used_again_is_not_recorded_again():
    layer = linear()

    def function(x):
        z = layer(x)
        y = torch.tanh(z)
        return z + y

    same(function, x_of(4, 5), ops=["linear + tanh"])


def test_two_activations_of_one_pre_activation():
    layer = linear()

    def function(x):
        z = layer(x)
        return torch.tanh(z) * torch.sigmoid(z)

    same(function, x_of(4, 5), ops=["linear + tanh", "sigmoid"])


def test_two_waiting_layers():
    gate, up = linear(), linear()

    def function(x):
        g, u = gate(x), up(x)
        return F.silu(g) * u

    same(function, x_of(4, 5), ops=["linear + silu", "linear"])


def test_linear_after_linear():
    a, b = linear(), linear(7, 5)
    same(lambda x: torch.tanh(b(a(x))), x_of(4, 5), ops=["linear", "linear + tanh"])
