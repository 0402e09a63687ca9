"""Operators on arbitrary tensors: shapes, strides, dtypes, parameters, special values."""

import math

import pytest
import torch
from cases.operators import ACTIVATIONS, DTYPES, assert_row
from cases.switches import times
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from initfast import ops
from initfast.ops import reference

OPS = torch.ops.initfast
SPECIALS = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-40, 3.0, -3.0, 6.0, 1e30, -3e38]

fuzz = settings(
    max_examples=times(120),
    deadline=None,
    derandomize=True,  # the same examples everywhere: a failure can be repeated
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def tensors(draw, dtype, shape=None):
    """A tensor with any strides, an offset, and specials sprinkled over normal numbers."""
    if shape is None:
        shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 17, 33]), max_size=4))
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in shape]
    repeated = [draw(st.integers(0, 9)) == 0 for _ in shape]
    strides, stride = [0] * len(shape), 1
    for d in order:
        strides[d] = 0 if repeated[d] else stride * steps[d]
        stride *= max(1, shape[d]) * steps[d] if not repeated[d] else 1
    offset = draw(st.integers(0, 3))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** draw(st.sampled_from([0, 0, 0, 1, -20, 15]))
    storage = torch.randn(offset + stride * 3 + 1, generator=generator, dtype=torch.float64) * scale
    for _ in range(draw(st.integers(0, 3))):
        where = torch.randint(len(storage), (), generator=generator)
        storage[where] = draw(st.sampled_from(SPECIALS))
    return storage.to(dtype).as_strided(shape, strides, offset)


def alike(a, b, dtype, loose=1.0):
    """Equal but for rounding, and where the other is not finite not finite."""
    rtol, atol = {
        torch.float32: (2e-5, 2e-6),
        torch.float64: (1e-11, 1e-13),
        torch.bfloat16: (2e-2, 1e-4),
        torch.float16: (3e-3, 1e-5),
    }[dtype]
    return torch.allclose(a, b, rtol=loose * rtol, atol=loose * atol, equal_nan=True)


@fuzz
@given(st.data())
def test_moments(data):
    x = data.draw(tensors(data.draw(st.sampled_from(DTYPES))))
    assert_row(ops.moments(x), x)


@fuzz
@given(st.data())
def test_act(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    name, alpha, beta = data.draw(st.sampled_from(ACTIVATIONS))
    z = data.draw(tensors(dtype))
    unit_dim = data.draw(st.integers(-z.dim(), z.dim() - 1)) if z.dim() else 0
    if name == "gelu":  # torch's own gelu of infinity is NaN or infinity by dtype and place
        z = torch.where(z.abs() > 1e5, torch.ones_like(z), z)
    y, moments, live = OPS.act(z, name, alpha, beta, unit_dim)
    expected = reference.act(z, name, alpha, beta, unit_dim)
    assert y.stride() == expected[0].stride()
    assert alike(y, expected[0], dtype)
    assert_row(moments[0], z)
    assert torch.equal(moments[1, :3], torch.tensor([y.numel(), bad(y), (y == 0).sum()]).double())
    if torch.equal(y != 0, expected[0] != 0):
        assert torch.equal(live, expected[2])


def without_mean(moments):
    return torch.cat([moments[:, :4], moments[:, 5:]], 1)


def bad(y):
    return (~torch.isfinite(y)).sum()


@fuzz
@given(st.data())
def test_act_backward(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    name, alpha, beta = data.draw(st.sampled_from(ACTIVATIONS))
    z = data.draw(tensors(dtype))
    grad_y = data.draw(tensors(dtype, z.shape))
    # Beyond these, products of zero and infinity inside the slopes differ by order of evaluation.
    z = torch.where(z.abs() < 1e4, z, torch.full_like(z, 2.0))
    grad_y = torch.where(grad_y.abs() < 1e4, grad_y, torch.ones_like(grad_y))
    grad_z, moments = OPS.act_backward(grad_y, z, name, alpha, beta)
    expected = reference.act_backward(grad_y, z, name, alpha, beta)[0]
    assert grad_z.stride() == expected.stride()
    scale = grad_y.abs().max().clamp(min=1) if grad_y.numel() else 1
    assert alike(grad_z / scale, expected / scale, dtype, loose=4.0)
    assert_row(moments[0], grad_z)
    assert_row(moments[1], grad_y)


@fuzz
@given(st.data())
def test_linear_act(data):
    dtype = data.draw(st.sampled_from([torch.float32, *DTYPES]))
    sizes = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 63, 64, 65, 130])
    leading = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 9]), max_size=3))
    depth, cols = data.draw(sizes), data.draw(sizes)
    if data.draw(st.booleans()):
        leading = [data.draw(sizes)]
    name, alpha, beta = data.draw(st.sampled_from(ACTIVATIONS))
    x = data.draw(tensors(dtype, [*leading, depth]))
    weight = data.draw(tensors(dtype, [cols, depth]))
    bias = data.draw(st.none() | tensors(dtype, [cols]))
    # Sums that overflow part of the way, and infinities that meet, depend on the order of adding.
    x, weight = (torch.where(t.abs() < 100, t, torch.ones_like(t)) for t in (x, weight))
    bias = None if bias is None else torch.where(bias.abs() < 100, bias, torch.nan)
    y, z, moments, live = OPS.linear_act(x, weight, bias, name, alpha, beta, True)
    assert y.shape == z.shape == (*leading, cols) and y.is_contiguous()
    exact = torch.nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    size = torch.nn.functional.linear(x.double().abs(), weight.double().abs()) + exact.abs()
    epsilon = torch.finfo(dtype).eps
    assert torch.equal(z.isnan(), exact.isnan())
    assert (
        (z.double() - exact).abs().nan_to_num(0) <= (8 * epsilon * size).nan_to_num(0) + 1e-7
    ).all()
    again, expected, marked = OPS.act(z, name, alpha, beta, -1)
    assert alike(y, again, dtype)
    assert torch.allclose(without_mean(moments[:2]), without_mean(expected), rtol=1e-5, atol=1e-7)
    finite = (expected[:, 0] - expected[:, 1]).clamp(min=1)
    slack = 1e-6 * (expected[:, 5] / finite).sqrt() + 1e-7  # of the mean, in standard deviations
    assert ((moments[:2, 4] - expected[:, 4]).abs() <= slack).all()
    assert_row(moments[2], weight)
    assert torch.equal(live, (y != 0).reshape(-1, cols).any(0) if y.numel() else marked)


@pytest.mark.parametrize("threads", [1, 3])
def test_many_shapes_on_one_and_three_threads(threads):
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(threads)
    for _ in range(150):
        n = int(torch.randint(1, 40_000, (), generator=generator))
        x = torch.randn(n, generator=generator) * 10 ** torch.randn((), generator=generator) + 5
        assert_row(ops.moments(x), x)
