"""What may change the memory that a waiting linear layer depends on."""

import torch
import torch.nn.functional as F
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
