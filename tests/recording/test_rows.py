"""Rows and masks come back under their addresses, wherever and however they were measured."""

import math

import numpy as np
import pytest
import torch
from cases.operators import DTYPES

from initfast import build_info, ops
from initfast.ops.dispatch import MEASURE, kernels_of
from initfast.ops.schemas import LIBRARY
from initfast.profiling.profile import profile
from initfast.recording.rows import Rows


def test_the_reference_has_no_function_past_the_dispatcher():
    assert (MEASURE is None) == (LIBRARY.backend == "reference")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 7, 4096, 4097, 70_000])
def test_a_row_has_the_bits_of_the_operator(dtype, count):
    x = torch.randn(count).to(dtype)
    x[3:5] = torch.tensor([torch.inf, torch.nan])[: max(count - 3, 0)]
    rows = Rows()
    for t in (x, x[1:], x[::2], x.view(-1, 7) if count % 7 == 0 else x):
        address = rows.measure(t, kernels_of(t))
        assert rows.read().rows[address].tobytes() == ops.moments(t).numpy().tobytes()


def test_more_rows_than_there_was_room_for():
    rows, x = Rows(), torch.arange(3.0)
    addresses = []
    for i in range(1500):
        addresses.append(rows.measure(x + i, kernels_of(x)))
        addresses.append(rows.add(torch.full((2, 12), float(i), dtype=torch.float64), 2))
    chain = rows.add(torch.full((5000, 12), 7.0, dtype=torch.float64), 5000)
    copies = rows.read()
    assert copies.rows[chain : chain + 5000].min() == 7 == copies.rows[chain : chain + 5000].max()
    assert [copies.rows[a, 4] for a in addresses[::2]] == [i + 1 for i in range(1500)]
    assert [copies.rows[a + 1, 0] for a in addresses[1::2]] == list(range(1500))


def test_what_was_read_does_not_change_with_what_comes_later():
    rows, x = Rows(), torch.ones(4)
    first = rows.measure(x, kernels_of(x))
    copies = rows.read()
    rows.measure(x, kernels_of(x))
    assert len(copies.rows) == 1 and copies.rows[first, 0] == 4
    assert len(rows.read().rows) == 2


def test_masks_of_several_layers():
    rows = Rows()
    one = rows.add_mask(torch.tensor([True, False]))
    several = rows.add_mask(torch.tensor([True, True, False, False, True]), [2, 3])
    last = rows.add_mask(torch.zeros(0, dtype=torch.bool))
    masks = rows.read().masks
    assert [masks[i].tolist() for i in (one, several, several + 1, last)] == [
        [True, False],
        [True, True],
        [False, False, True],
        [],
    ]
    assert all(mask.dtype == np.bool_ for mask in masks)


class OnACard(torch.Tensor):
    """Says that it is on a card, and counts the copies that are made of it."""

    is_cpu = False
    copies = 0

    def cpu(self):
        OnACard.copies += 1
        return self.as_subclass(torch.Tensor)


def test_what_lies_elsewhere_is_copied_once():
    rows, x = Rows(), torch.ones(4)
    card = torch.arange(72.0, dtype=torch.float64).view(6, 12).as_subclass(OnACard)
    first, here = rows.add(card[:2], 2), rows.measure(x, kernels_of(x))
    second = rows.add(card[2:], 4)
    mask = rows.add_mask(torch.tensor([True, False, True]).as_subclass(OnACard), [1, 2])
    own = rows.add_mask(torch.tensor([False]))
    for number in (torch.tensor(2.5), torch.tensor(-torch.inf, dtype=torch.bfloat16)):
        rows.add_number(number)
    copied = rows.read()
    assert OnACard.copies == 1
    assert copied.numbers == [2.5, -math.inf]
    assert copied.rows[first : first + 2].ravel().tolist() == list(range(24))
    assert copied.rows[second : second + 4].ravel().tolist() == list(range(24, 72))
    assert copied.rows[here, 0] == 4
    assert [copied.masks[i].tolist() for i in (mask, mask + 1, own)] == [
        [True],
        [False, True],
        [False],
    ]


class Masked(torch.nn.Module):
    def forward(self, x):
        return x.masked_fill(x > 1, -torch.inf)


@pytest.mark.parametrize("bad", [False, True])
def test_nan_is_told_from_infinities_without_another_read(bad):
    x = torch.tensor([[0.5, 2.0, torch.nan if bad else 0.25]])
    with torch.profiler.profile() as seen:
        layer = profile(Masked(), x, trace_nonfinite=False)[0]
        assert (layer.nan, layer.inf, layer.has_nan) == (bad, 1, bad)
    if build_info().backend == "native":  # the reference counts NaN by torch's function
        assert "aten::isnan" not in {event.name for event in seen.events()}
    assert (layer.smallest, layer.crest) == (layer.post.smallest, layer.post.crest)
    assert (layer.dynamic_range, layer.inf) == (layer.post.dynamic_range, layer.post.inf)
