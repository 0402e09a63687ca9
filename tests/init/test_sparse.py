"""Sparse matrices: so many zeros in each column, anywhere."""

import math

import pytest
import torch

from initfast import init

REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", [*REAL, torch.complex64], ids=str)
@pytest.mark.parametrize(
    "rows, cols, sparsity", [(40, 30, 0.1), (101, 17, 0.5), (7, 90, 0.99), (5, 5, 0), (5, 5, 1)]
)
def test_sparse_counts(rows, cols, sparsity, dtype):
    w = init.sparse_(torch.empty(rows, cols, dtype=dtype), sparsity, std=0.2, key=3)
    assert ((w == 0).sum(0) == math.ceil(sparsity * rows)).all()
    kept = w[w != 0]
    assert torch.equal(
        kept, init.normal_(torch.empty(rows, cols, dtype=dtype), std=0.2, key=3)[w != 0]
    )


def test_sparse_places_are_uniform():
    rows, cols, zeros = 12, 60_000, 5
    chosen = init.sparse_(torch.empty(rows, cols), zeros / rows, key=9) == 0
    counts = chosen.sum(1).double()
    expected = cols * zeros / rows
    # Rows of a column are negatively correlated: the statistic has rows - 1 degrees of freedom.
    chi = ((counts - expected) ** 2).sum() / (expected * (1 - zeros / rows)) * (rows - 1) / rows
    assert 1.5 < chi < 35
    pairs = (chosen.double() @ chosen.double().t()).fill_diagonal_(0)
    share = zeros * (zeros - 1) / (rows * (rows - 1))
    off = pairs[~torch.eye(rows, dtype=torch.bool)]
    assert (off - cols * share).abs().max() < 5 * math.sqrt(cols * share * (1 - share))
