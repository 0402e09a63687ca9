"""The CUDA kernels on the host, against float64 and the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_on_cpu import checks, harness
from cuda_on_cpu.harness import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st

from initfast.ops import activations

ACTIVATIONS = list(activations.ACTIVATIONS)
# Around a vector, a warp's width, a run (512 numbers; 128 of float64), a tile of 8 runs.
EDGES = (0, 1, 3, 4, 5, 31, 33, 127, 129, 511, 512, 513, 1023, 4095, 4096, 4097, 9001)


# ---- moments ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", EDGES)
def test_moments_of_every_size(device, n, dtype):
    x = checks.numbers(n, seed=n)
    aligned = checks.check_moments(device, x, dtype)
    for misalign in range(1, 16 // harness.ELEMENT_BYTES[dtype]):
        unaligned = checks.check_moments(device, x, dtype, misalign=misalign)
        assert aligned.tobytes() == unaligned.tobytes()


@pytest.mark.parametrize("scale", [1e-44, 1e-37, 1e-20, 1.0, 1e17, 1e30, 1e37])
@pytest.mark.parametrize("shift", [0.0, 1.0, 1e4])
def test_moments_at_every_scale(device, scale, shift):
    if shift * scale < 3e38 / 6:
        checks.check_moments(device, checks.numbers(5000, 1, scale, shift * scale), "float32")


@pytest.mark.parametrize("scale", [1e-150, 1e150])  # m2 itself is their square
def test_moments_of_float64_at_its_limits(device, scale):
    checks.check_moments(device, checks.numbers(3000, 2, scale), "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", [[0], [700], [5, 6, 4999], range(5000), range(0, 5000, 2)])
@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
def test_moments_with_nonfinite_numbers(device, dtype, where, what):
    x = checks.numbers(5000, 3)
    x[list(where)] = what
    checks.check_moments(device, x, dtype)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1e-40, 3.4e38, -3.4e38])
def test_moments_of_a_constant(device, value):
    checks.check_moments(device, np.full(6000, value), "float32")


def test_moments_of_more_blocks_than_a_block_has_threads(device):
    checks.check_moments(device, checks.numbers(300 * 4096 + 5, 3, 2.0) + 1, "float32")


def test_moments_where_a_plain_sum_overflows(device):
    x = np.where(np.arange(5000) % 3 == 0, -3e38, 3.3e38)
    checks.check_moments(device, x, "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("factor", [0.0, 1e-37, 1e-20, 1e-9, 1.0, 1e9, 1e20])
@pytest.mark.parametrize("first", [0, 4])
def test_moments_where_a_warps_runs_are_of_different_scales(device, first, factor, dtype):
    """Each warp measures 16 runs of the weight, the mean of one the centre of the next."""
    weight = checks.numbers(32 * 2048, 3, 0.1, 0.05).reshape(32, 2048)
    weight[np.arange(32) % 8 // 4 * 4 == first] *= factor
    weight = harness.rounded(weight, dtype)
    moments = device.linear_act(np.ones((1, 2048)), weight, None, "identity", (0.0, 0.0), dtype)[2]
    checks.check_row(moments[2], weight.ravel())


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_of_strided_tensors(device, dtype):
    base = checks.numbers(24 * 40 * 9, 4).reshape(24, 40, 9)
    for view in (base.transpose(2, 0, 1), base[::2, 3:31:3], base[:, :, 4], base[5:6, ::3, ::2]):
        checks.check_moments(device, view, dtype, strided=True)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 3000),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1e-3, 1.0, 100.0]),
    shift=st.floats(-50, 50),
    seed=st.integers(0, 2**31),
)
def test_moments_of_any_tensor(device, n, dtype, scale, shift, seed):
    checks.check_moments(device, checks.numbers(n, seed, scale, shift), dtype, misalign=seed % 3)


# ---- unit_moments ----

UNITS = ((1, 1, 2), (1, 5, 1), (3, 33, 1), (700, 31, 1), (1100, 64, 1), (2, 3, 5), (40, 2, 49))
UNITS += ((1, 2, 9000), (300, 1, 64))  # of several spans


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", UNITS, ids=str)
def test_unit_moments(device, shape, dtype):
    checks.check_unit_moments(device, shape, dtype)


@pytest.mark.parametrize("shape", [(1500, 7, 1), (3, 2, 6000)], ids=str)
def test_units_that_are_the_same_throughout_have_no_m2(device, shape):
    x = np.broadcast_to(np.array([0.1, -3e37, 0, 7, 1e-42, 2, 3])[: shape[1], None], shape)
    units = device.unit_moments(x, "float32")
    first = harness.rounded(x[0, :, 0], "float32")
    assert not units[2].any() and np.array_equal(units[1], first)
    assert np.array_equal(units[3], np.abs(first)) and (units[0] == shape[0] * shape[2]).all()


# ---- act ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_act(device, act, dtype):
    checks.check_act(device, act, dtype, (33, 129))
    checks.check_act(device, act, dtype, (8, 64), bias=True, misalign=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(4, 3, 7, 7), (2, 8, 4, 4), (3, 1, 5, 4), (2, 5, 1, 1), (1, 300, 8, 8), (2, 16, 9)]
)
def test_act_over_channels(device, shape, dtype):
    checks.check_act(device, "relu", dtype, shape, unit_dim=1)


@pytest.mark.parametrize("n", EDGES)
def test_act_of_every_size(device, n):
    if n > 0:
        checks.check_act(device, "relu", "float32", (n, 1), seed=n)
        checks.check_act(device, "hardtanh", "bfloat16", (1, n), seed=n, bias=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_act_in_place(device, dtype):
    for misalign in (0, 1):
        checks.check_act(device, "gelu", dtype, (40, 70), misalign=misalign, in_place=True)


def test_act_counts_dead_units(device):
    z = -np.abs(checks.numbers(64 * 100, 5)).reshape(64, 100)
    z[63, 7] = z[0, 50] = 1
    live = device.act(z, "relu", (0, 0), units=100)[3]
    assert np.flatnonzero(live).tolist() == [7, 50]


def test_act_of_a_strided_tensor(device):
    base = checks.numbers(60 * 90, 6).reshape(60, 90)
    z = base[:, 10:55]
    y, _, rows, live = device.act(z, "silu", (0, 0), units=45, strided=True)
    z32 = harness.rounded(z, "float32")
    checks.check_values(y.reshape(z.shape), z32 / (1 + np.exp(-z32)), "float32")
    checks.check_row(rows[0], z32.ravel())
    assert np.array_equal(live, (y.reshape(z.shape) != 0).any(0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_act_of_nothing(device, dtype):
    y, _, rows, live = device.act(np.zeros((0, 5)), "tanh", (0, 0), dtype, units=5)
    assert y.size == 0 and not live.any()
    checks.check_row(rows[0], np.zeros(0))


@pytest.mark.parametrize("act", ["tanh", "relu", "gelu", "softplus"])
def test_act_lets_nonfinite_numbers_through(device, act):
    z = checks.numbers(5000, 8)
    z[[1, 2500, 4999]] = np.nan, np.inf, -np.inf
    y, _, rows, _ = device.act(z, act, activations.ACTIVATIONS[act].defaults, units=5000)
    assert np.isnan(y[1])
    checks.check_row(rows[0], harness.rounded(z, "float32"))
    checks.check_row(rows[1], y, saturated=int(rows[1][3]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_act_backward(device, act, dtype):
    checks.check_act_backward(device, act, dtype, 4113, misalign=1)
    checks.check_gradients_that_are_not_finite(device, act, dtype)


# ---- linear_act ----

TENSOR_CORE = ("bfloat16", "float16")


@pytest.mark.parametrize("dtype", ["float32", *TENSOR_CORE])
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 15, 16, 17, 33, 64, 65])
def test_linear_act_rows(device, rows, dtype):
    checks.check_linear_act(device, rows, 20, 96, dtype)


@pytest.mark.parametrize("dtype", ["float32", *TENSOR_CORE])
@pytest.mark.parametrize("cols", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 40])
def test_linear_act_columns(device, cols, dtype):
    checks.check_linear_act(device, 5, cols, 64, dtype, "relu")


@pytest.mark.parametrize("dtype", ["float32", *TENSOR_CORE])
@pytest.mark.parametrize(
    "depth",
    [
        0,
        1,
        2,
        3,
        4,
        5,
        7,
        8,
        9,
        31,
        32,
        33,
        127,
        128,
        129,
        255,
        257,
        511,
        512,
        513,
        1024,
        1025,
        2100,
    ],
)
def test_linear_act_depth(device, depth, dtype):
    checks.check_linear_act(device, 3, 9, depth, dtype, "gelu")


@pytest.mark.parametrize("dtype", ["float32", *TENSOR_CORE])
def test_linear_act_many_rows_and_depth(device, dtype):
    checks.check_linear_act(device, 64, 33, 700, dtype, "silu")


def test_linear_act_many_columns(device):
    checks.check_linear_act(device, 17, 2050, 40, "float32", "identity")


@pytest.mark.parametrize("dtype", ["float32", *TENSOR_CORE])
@pytest.mark.parametrize("padding", [1, 8])
@pytest.mark.parametrize("misalign", [0, 1])
def test_linear_act_where_rows_lie_apart(device, dtype, padding, misalign):
    checks.check_linear_act(device, 9, 11, 131, dtype, padding=padding, misalign=misalign)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_linear_act_every_activation(device, act):
    checks.check_linear_act(device, 6, 10, 50, "float32", act, bias=False)
    checks.check_linear_act(device, 6, 10, 50, "bfloat16", act)


def test_linear_act_keeps_z_only_where_asked(device):
    x, weight = checks.numbers(40, 1).reshape(4, 10), checks.numbers(60, 2).reshape(6, 10)
    y, z, *_ = device.linear_act(x, weight, None, keep_z=False)
    assert z is None
    checks.check_values(y, x @ weight.T, "float32")


def test_linear_act_nan_stays_in_its_row(device):
    x, weight = checks.numbers(160, 1).reshape(16, 10), checks.numbers(60, 2).reshape(6, 10)
    x[3, 4] = np.nan
    weight[5, 0] = np.inf
    for dtype in ("float32", *TENSOR_CORE):
        _, z, moments, _ = device.linear_act(x, weight, None, dtype=dtype)
        finite = np.isfinite(z)
        assert not finite[3].any()
        assert finite[np.arange(16) != 3, :5].all()
        assert moments[0][1] == (~finite).sum()


# ---- order ----


def test_bits_do_not_depend_on_the_order_of_threads(device):
    x = checks.numbers(30000, 9)
    seen = set()
    for seed, resident in [(0, 1), (1, 2), (2, 5), (3, 9)]:
        device.schedule(seed, resident)
        linear = checks.check_linear_act(device, 17, 40, 300, "float32")
        cores = checks.check_linear_act(device, 17, 40, 300, "bfloat16")
        row = device.moments(x)
        seen.add(b"".join(a.tobytes() for a in (row, *linear, *cores)))
    device.schedule(1, 2)
    assert len(seen) == 1
