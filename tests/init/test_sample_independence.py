"""Samples do not depend on each other: of keys that follow each other, of elements, of bits."""

import math

import pytest
import torch

from initfast import init
from initfast.ops import reference_sampling


def correlation_of_rows(x):
    x = x - x.mean(1, keepdim=True)
    x = x / x.norm(dim=1, keepdim=True)
    return (x @ x.t()).fill_diagonal_(0)


@pytest.mark.parametrize("first", [0, 2**32 - 8, -16])
def test_neighbouring_keys_are_independent(first):
    keys, count = 64, 100_000
    x = torch.stack([init.normal_(torch.empty(count), key=first + k) for k in range(keys)])
    for y in (x, x.square(), x.abs() > 2):
        assert correlation_of_rows(y.double()).abs().max() < 5.5 / math.sqrt(count)


def test_neighbouring_elements_are_independent():
    x = init.normal_(torch.empty(2**22), key=1).double()
    for lag in (1, 2, 3, 4, 5, 7, 8, 15, 16, 32, 64, 127, 128, 256, 1000, 1024, 4096, 65536):
        for y in (x, x.square() - 1, x.sign()):
            near = (y[lag:] * y[:-lag]).mean() / y.square().mean()
            assert abs(near) < 5.5 / math.sqrt(len(x)), lag


def test_words_of_float32_and_float64_are_fair_bits():
    for bits in (32, 64):
        word = reference_sampling.stream_words(torch.arange(400_000), 3, bits)
        for bit in range(bits):
            ones = (word >> bit & 1).double().mean()
            assert abs(ones - 0.5) < 5 / (2 * math.sqrt(len(word)))
