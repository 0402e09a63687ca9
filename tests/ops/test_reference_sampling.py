"""The reference's own arithmetic: one rounding where the kernels have an instruction for it."""

import math
from fractions import Fraction

import numpy as np
import torch
from cases.streams import same_bits

from initfast.ops import reference_sampling


def test_fma_rounds_once():
    generator = np.random.default_rng(0)
    for dtype, wide in ((torch.float32, 24), (torch.float64, 53)):
        bits = 2.0 ** (1 - wide)
        a, b, c = (torch.from_numpy(generator.uniform(1, 2, 20_000)).to(dtype) for _ in range(3))
        c = c * torch.from_numpy(generator.choice([1, -1, bits, -bits / 2, bits**2], 20_000)).to(
            dtype
        )
        c[:5000] = -a[:5000] * b[:5000]  # leaves the product's rounding error
        result = reference_sampling.fma(a, b, c)
        for x, y, z, r in zip(a.tolist(), b.tolist(), c.tolist(), result.tolist(), strict=True):
            exact = Fraction(x) * Fraction(y) + Fraction(z)
            unit = Fraction(math.ulp(r)) * (2**29 if dtype == torch.float32 else 1)
            error = abs(Fraction(r) - exact)
            assert error <= unit / 2
            if error == unit / 2:  # a tie: to even
                assert (Fraction(r) / unit) % 2 == 0


def test_fma_at_the_ends_of_the_range():
    generator = np.random.default_rng(1)
    a, b, c = (torch.from_numpy(generator.uniform(-2, 2, 1000)) for _ in range(3))
    big = 2.0**1000
    assert torch.equal(reference_sampling.fma(a * big, b / big, c), reference_sampling.fma(a, b, c))
    infinite = torch.tensor([math.inf, -math.inf, 1e300, math.nan])
    for dtype in (torch.float32, torch.float64):
        x, y, z = (
            infinite.to(dtype),
            torch.full((4,), 1e38, dtype=dtype),
            torch.ones((), dtype=dtype),
        )
        assert same_bits(reference_sampling.fma(x, y, z), torch.addcmul(z, x, y))
