"""The operators on a card past 2^31 elements: every index needs 64 bits."""

from __future__ import annotations

import pytest
import torch
from cases.cuda import MARKS, need_memory, one_rounding  # noqa: F401

from initfast import ops

pytestmark = MARKS

MANY = (1 << 31) + 4099


def test_moments_and_act_past_2_to_31_elements():
    need_memory(14)
    x = torch.ones(MANY, dtype=torch.bfloat16, device="cuda")
    x[-1] = 3
    row = ops.moments(x).tolist()
    assert (row[0], row[6], row[7]) == (MANY, 1, 3)
    y, rows, _ = ops.act(x, "relu")
    assert rows[1].tolist()[7] == 3 and y[-1] == 3
    moments, live = ops.act_(x.view(1, -1), "relu", unit_dim=1)
    assert moments[1].tolist()[7] == 3 and x[-1] == 3 and live.all()


def test_act_backward_past_2_to_31_elements():
    need_memory(14)
    z = torch.ones(MANY, dtype=torch.bfloat16, device="cuda")
    grad_y = torch.ones_like(z)
    z[-2], grad_y[-1] = -1, 3
    grad_z, rows = torch.ops.initfast.act_backward(grad_y, z, "relu", 0.0, 0.0)
    assert grad_z[-3:].tolist() == [1, 0, 3]
    assert [row[0] for row in rows.tolist()] == [MANY, MANY] and rows[0, 7] == 3


def test_linear_act_of_a_weight_past_2_to_31_elements():
    need_memory(6)
    rows, cols, depth = 4, (1 << 19) + 1, 4100
    weight = torch.zeros(cols, depth, dtype=torch.bfloat16, device="cuda")
    weight[-1, -1] = 2
    x = torch.ones(rows, depth, dtype=torch.bfloat16, device="cuda")
    y, moments, live = ops.linear_act(x, weight)
    assert y[:, -1].tolist() == [2] * rows and y[:, :-1].count_nonzero() == 0
    assert moments[2, 0] == weight.numel() > 1 << 31 and moments[2, 7] == 2
    assert live.nonzero().tolist() == [[cols - 1]]


def test_linear_act_of_an_output_past_2_to_31_elements():
    need_memory(10)
    rows, cols, depth = (1 << 20) + 1, 2048, 8
    x = torch.zeros(rows, depth, dtype=torch.bfloat16, device="cuda")
    x[-1] = 1
    weight = torch.ones(cols, depth, dtype=torch.bfloat16, device="cuda")
    y, moments, live = ops.linear_act(x, weight, act="relu")
    assert (y[-1] == depth).all() and y[-2].count_nonzero() == 0 and live.all()
    assert moments[1, 0] == rows * cols and moments[1, 2] == (rows - 1) * cols


@pytest.mark.parametrize("shape", ["row", "rows"])
def test_samples_past_2_to_31_elements_are_the_bits_of_the_cpu(shape):
    need_memory(6)
    sizes = {"row": (MANY,), "rows": (MANY // 3 + 1, 3)}[shape]
    out = torch.empty(sizes, dtype=torch.bfloat16, device="cuda")
    arguments = ("uniform", None, 2.0**-32, 0.5, 0.0, 1.0, 7)
    ops.sample_(out, *arguments, 0, out.stride())
    for start in (0, (1 << 31) - 600, out.numel() - 1200):
        part = torch.empty(1200, dtype=torch.bfloat16)
        ops.sample_(part, *arguments, start, (1,))
        assert torch.equal(out.view(-1)[start : start + 1200].cpu(), part)


def test_zero_rows_past_2_to_31_elements():
    need_memory(8)
    rows, cols = 1 << 10, (1 << 21) + 5
    out = torch.ones(rows, cols, dtype=torch.bfloat16, device="cuda")
    ops.zero_rows_(out, 3, 7)
    assert ((out[:, -300:] == 0).sum(0) == 3).all()
