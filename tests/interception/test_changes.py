"""A waiting linear layer: no change of the memory that it depends on can tell that it waits."""

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import linear, same, x_of
from torch import nn


def change_x(x, layer):
    x.mul_(3)


def change_x_by_item(x, layer):
    x[0] = 1.0


def change_x_by_view(x, layer):
    x.view(-1).add_(1)


def change_x_by_out(x, layer):
    torch.neg(x, out=x)


def change_x_by_operator(x, layer):
    torch.ops.aten.add_(x, 1)


def change_x_by_numpy(x, layer):
    x.numpy()[:] = 2.0


def change_x_by_augmented(x, layer):
    x += 1


def change_x_by_foreach(x, layer):
    torch._foreach_mul_([x], 2.0)


def change_x_by_init(x, layer):
    nn.init.ones_(x)


def change_weight(x, layer):
    layer.weight.zero_()


def change_weight_by_data(x, layer):
    layer.weight.data.fill_(1.0)


def change_weight_by_new_data(x, layer):
    layer.weight.data = torch.ones(7, 5)


def change_bias(x, layer):
    layer.bias.copy_(torch.ones(7))


def change_x_by_activation(x, layer):
    F.relu(x, inplace=True)


CHANGES = [value for name, value in list(globals().items()) if name.startswith("change_")]


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
