"""Copies of modules that a forward makes while a profile runs are as copies made outside."""

import copy
import inspect
import pickle

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import batch
from torch import nn

from initfast.profiling.profile import profile


def by_hand(module):
    """As meta-learning libraries and DataParallel clone: all attributes are the original's."""
    clone = module.__new__(type(module))
    clone.__dict__ = module.__dict__.copy()
    return clone


def pickled(module):
    return pickle.loads(pickle.dumps(module))


HOWS = [copy.copy, copy.deepcopy, pickled, by_hand]


class Copying(nn.Module):
    """Runs copies of its modules, with other weights, in their stead."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.linear, self.norm, self.pairs = nn.Linear(8, 8), nn.LayerNorm(8), nn.Sequential()
        self.pairs.extend([nn.Linear(8, 8), nn.Tanh()])

    def copied(self, module):
        copied = self.how(module)
        copied._parameters = dict(copied._parameters)
        if "weight" in copied._parameters:
            copied.weight = nn.Parameter(torch.full_like(copied.weight, 0.5))
        return copied

    def forward(self, x):
        linear, norm, pairs = self.copies = [
            self.copied(module) for module in (self.linear, self.norm, self.pairs)
        ]
        pairs._modules = {"0": linear, "1": nn.Sigmoid()}
        x = torch.tanh(self.linear(x))
        for _ in range(2):
            x = torch.relu(linear(x))  # follows a layer that waits
        return self.pairs(pairs(norm(x)))


@pytest.mark.parametrize("how", HOWS)
def test_a_copy_computes_with_its_own_weights(how):
    net, x, outputs = Copying(how), batch(4, 8), []
    net.register_forward_hook(lambda module, args, y: outputs.append(y))
    with torch.no_grad():
        expected = net(x)
        profile(net, x)
        torch.testing.assert_close(outputs[1], expected)
        linear, norm, pairs = net.copies
        y = F.linear(x, torch.full((8, 8), 0.5), linear.bias)
        torch.testing.assert_close(linear(x), y)
        torch.testing.assert_close(norm(y), F.layer_norm(y, (8,), norm.weight, norm.bias))
        torch.testing.assert_close(pairs(x), torch.sigmoid(y))


@pytest.mark.parametrize("how", HOWS[:3])
def test_nothing_of_the_profile_is_in_a_copy(how):
    net, x = Copying(how), batch(4, 8)
    net(x)
    before = [sorted(vars(module)) for module in net.copies]
    profile(net, x)
    assert [sorted(vars(module)) for module in net.copies] == before
    for module in net.copies:
        assert b"initfast" not in pickle.dumps(module)


def test_what_looks_at_a_forward_sees_torchs():
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

        def forward(self, x):
            for module in (self.linear, self.norm):
                assert module.forward.__func__ is type(module).forward
                assert list(inspect.signature(module.forward).parameters) == ["input"]
            return torch.jit.trace(self.norm, x)(self.norm.forward(self.linear.forward(x)))

    net, x = Looking(), batch(4, 8)
    assert "linear" in [layer.name for layer in profile(net, x)]
