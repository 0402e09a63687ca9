"""A waiting linear layer: no change of the memory that it depends on can tell that it waits."""

import pytest
import torch
from cases.changes import CHANGES
from cases.profiles import linear, same, x_of


@pytest.mark.parametrize("change", CHANGES)
def test_change_between_linear_and_activation(change):
    def function(x):
        layer = linear()
        z = layer(x)
        change(x, layer)
        return torch.tanh(z), x

    same(function, x_of(4, 5))


@pytest.mark.parametrize("change", CHANGES)
def test_change_between_activation_and_second_use(change):
    def function(x):
        layer = linear()
        z = layer(x)
        y = torch.tanh(z)
        change(x, layer)
        return z * 2, y, x

    same(function, x_of(4, 5))


@pytest.mark.parametrize("change", CHANGES)
def test_change_after_the_layer_is_done(change):
    def function(x):
        layer = linear()
        y = torch.tanh(layer(x))
        change(x, layer)
        return y, layer(x)

    same(function, x_of(4, 5))


def test_in_place_activation_writes_into_the_pre_activation():
    layer = linear()

    def function(x):
        z = layer(x)
        y = z.relu_()
        y.add_(1)
        return z, y

    same(function, x_of(4, 5), ops=["linear + relu"])


def test_in_place_activation_of_a_used_pre_activation():
    layer = linear()

    def function(x):
        z = layer(x)
        y = torch.tanh(z)
        z.relu_()
        return z, y

    same(function, x_of(4, 5), ops=["linear + tanh", "relu"])


def test_in_place_activation_of_a_value_that_a_layer_waits_on():
    a, b = linear(), linear(7, 7)

    def function(x):
        z = a(x)
        u = b(z)
        z.relu_()
        return torch.tanh(u), z

    same(function, x_of(4, 5))


def test_in_place_change_of_a_pending():
    layer = linear()

    def function(x):
        z = layer(x)
        view = z.view(-1)
        z += 1
        z[0] = 0
        view.mul_(2)
        return torch.tanh(z), z.t_(), z.shape

    same(function, x_of(4, 5))
