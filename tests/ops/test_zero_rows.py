"""zero_rows_: so many zeros in each column, at the same places in every part and by every way."""

import pytest
import torch
from cases.streams import DTYPES

from initfast import ops
from initfast.ops import reference_sampling


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "rows, cols, count", [(1, 1, 1), (40, 37, 0), (40, 37, 40), (300, 50, 77), (9, 530, 4)]
)
def test_zero_rows_reference(rows, cols, count, dtype):
    a, b = torch.ones(rows, cols, dtype=dtype), torch.ones(cols, rows, dtype=dtype).t()
    truth = torch.ones(rows, cols, dtype=dtype)
    reference_sampling.zero_rows_(truth, count, -5, rows, 0, 0)
    assert torch.equal(ops.zero_rows_(a, count, -5), truth)
    assert torch.equal(ops.zero_rows_(b, count, -5), truth)
    assert ((truth == 0).sum(0) == count).all()


@pytest.mark.parametrize(
    "part", [(0, 40, 0, 530), (7, 40, 250, 530), (39, 1, 529, 1), (40, 0, 3, 9)]
)
@pytest.mark.parametrize(
    "zero_rows_", [torch.ops.initfast.zero_rows_, reference_sampling.zero_rows_]
)
def test_parts_of_a_matrix_have_its_zeros(zero_rows_, part):
    whole = ops.zero_rows_(torch.ones(40, 530), 6, 11)
    row, rows, col, cols = part
    expected = whole[row : row + rows, col : col + cols]
    out = torch.ones_like(expected)
    zero_rows_(out, 6, 11, 40, row, col)
    assert torch.equal(out, expected)
