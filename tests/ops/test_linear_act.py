"""linear_act: the kernel of our own, the library's product in panels, and the reference."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from cases.operators import (
    ACTIVATION_IDS,
    ACTIVATIONS,
    DTYPES,
    assert_row,
    layouts,
    true_value,
)

from initfast import ops
from initfast.ops import reference
from initfast.ops.schemas import LIBRARY

LINEAR_ACT = torch.ops.initfast.linear_act
NAN, INF = math.nan, math.inf
NATIVE = LIBRARY.backend == "native"

# (rows, in_features, out_features) at the edges of blocks (1, 2, 4), vectors (4, 8, 16), tiles
# (64), stretches of depth (1024), panels (512) and runs (4096); and nothing in each place.
SIZES = [
    (1, 1, 1),
    (2, 3, 5),
    (3, 4, 2),
    (4, 15, 17),
    (5, 16, 4),
    (16, 256, 256),
    (63, 31, 65),
    (64, 33, 64),
    (65, 7, 63),
    (7, 1023, 9),
    (3, 1025, 66),
    (1, 4097, 3),
    (513, 5, 9),
    (1, 64, 4097),
    (130, 20, 130),
    (0, 4, 3),
    (4, 0, 3),
    (4, 3, 0),
    (0, 0, 0),
]


def normal(*shape, dtype=torch.float32):
    return torch.randn(shape, dtype=torch.float64).to(dtype)


def check(x, weight, bias, name="tanh", alpha=0.0, beta=0.0):
    """Against float64: z by the error bound of a dot product, the rest given z."""
    y, z, moments, live = LINEAR_ACT(x, weight, bias, name, alpha, beta, True)
    wide = [None if t is None else t.double() for t in (x, weight, bias)]
    exact = F.linear(*wide)
    size = F.linear(*(None if t is None else t.abs() for t in wide))
    assert y.shape == z.shape == (*x.shape[:-1], weight.shape[0])
    assert y.dtype == z.dtype == x.dtype and y.is_contiguous() and z.is_contiguous()
    accumulated = torch.finfo(torch.float64 if x.dtype == torch.float64 else torch.float32).eps
    stored = torch.finfo(x.dtype).eps
    error = (z.double() - exact).abs()
    # n terms in lanes and stretches: far fewer roundings than n reach any one of them.
    depth = 4 + x.shape[-1] / 16
    unbiased = exact if bias is None else exact - wide[2]  # the library may round before the bias
    rounded = stored * (exact.abs() + unbiased.abs())
    assert (error <= depth * accumulated * size + rounded + 1e-30).all()
    from_z = true_value(name, z, alpha, beta)
    slack = {torch.float32: 1e-6, torch.float64: 1e-13}.get(x.dtype, stored)
    assert ((y.double() - from_z).abs() <= slack * (1 + from_z.abs())).all()
    assert moments.shape == (3, 12)
    assert_row(moments[0], z)
    assert_row(moments[1], y, int(moments[1, 3]))
    assert_row(moments[2], weight)
    expected = (y != 0).reshape(-1, weight.shape[0]).any(0) if y.numel() else live & False
    assert live.dtype == torch.bool and torch.equal(live, expected)
    return y, moments, live


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(size, dtype):
    rows, depth, cols = size
    x, weight, bias = (
        normal(rows, depth, dtype=dtype),
        normal(cols, depth, dtype=dtype),
        normal(cols, dtype=dtype),
    )
    for b in (bias, None):
        check(x, weight, b)
        check(x, weight, b, "relu")
        check(x, weight, b, "identity")


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS, ids=ACTIVATION_IDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_activation(name, alpha, beta, dtype):
    x, weight, bias = (normal(*s, dtype=dtype) for s in ((67, 33), (71, 33), (71,)))
    y, moments, live = check(x, weight, bias, name, alpha, beta)
    again = reference.linear_act(x, weight, bias, name, alpha, beta, False)
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-12}.get(dtype, 0.05)
    assert torch.allclose(y, again[0], rtol=tolerance, atol=20 * tolerance)
    assert torch.allclose(moments[:, 4:6], again[2][:, 4:6], rtol=tolerance, atol=tolerance)
    # A value within rounding of the line may count on either side.
    slack = 2 if dtype.itemsize >= 4 else 0.03 * y.numel()
    assert (moments[1, 3] - again[2][1, 3]).abs() <= slack
    assert torch.equal(live, again[3])


@pytest.mark.parametrize("leading", [(), (1,), (2, 3), (2, 1, 3, 2), (0, 3), (3, 0, 2), (1,) * 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_leading_dimensions(leading, dtype):
    x = normal(*leading, 9, dtype=dtype)
    weight, bias = normal(6, 9, dtype=dtype), normal(6, dtype=dtype)
    y, moments, _ = check(x, weight, bias)
    flat = LINEAR_ACT(x.reshape(-1, 9), weight, bias, "tanh", 0.0, 0.0, False)
    assert torch.equal(flat[0].reshape(y.shape), y) and torch.equal(flat[2], moments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_every_layout_of_every_operand(dtype):
    xs = [*layouts((5, 18), dtype).values(), *layouts((2, 3, 4, 18), dtype).values()]
    weights = list(layouts((7, 18), dtype).values())
    biases = [*layouts((7,), dtype).values(), None]
    for i, x in enumerate(xs):
        check(x, weights[i % len(weights)], biases[i % len(biases)])
        check(x, weights[-1 - i % len(weights)], biases[-1 - i % len(biases)])
    for weight, bias in itertools.product(weights, biases):
        check(xs[0], weight, bias)


@pytest.mark.parametrize("shape", [(6, 1), (1, 6), (1, 1)])
def test_dimensions_of_one_with_any_stride(shape):
    x = torch.randn(100).as_strided(shape, (7, 13), 3)
    weight = torch.randn(100).as_strided((4, shape[1]), (11, 5), 1)
    check(x, weight, None)


@pytest.mark.parametrize("offset", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_unaligned_operands(offset, dtype):
    x = normal(20 * 37 + offset, dtype=dtype)[offset:].view(20, 37)
    weight = normal(19 * 37 + offset, dtype=dtype)[offset:].view(19, 37)
    bias = normal(19 + offset, dtype=dtype)[offset:]
    check(x, weight, bias)


def test_z_is_kept_only_where_asked_for():
    x, weight = normal(4, 3), normal(5, 3)
    with_z = LINEAR_ACT(x, weight, None, "gelu", 0.0, 0.0, True)
    without = LINEAR_ACT(x, weight, None, "gelu", 0.0, 0.0, False)
    assert (with_z[1].shape, without[1].shape) == ((4, 5), (0,))
    assert without[1].dtype == x.dtype
    for a, b in zip(with_z[2:], without[2:], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(with_z[0], without[0])


def test_operands_are_left_alone():
    operands = normal(70, 40), normal(65, 40), normal(65)
    kept = [t.clone() for t in operands]
    LINEAR_ACT(*operands, "relu", 0.0, 0.0, True)
    assert all(torch.equal(a, b) for a, b in zip(operands, kept, strict=True))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_value_that_is_not_finite_reaches_its_row_and_no_other(bad, dtype):
    x, weight, bias = (normal(*s, dtype=dtype) for s in ((70, 21), (69, 21), (69,)))
    x[66, 20] = bad
    y = LINEAR_ACT(x, weight, bias, "identity", 0.0, 0.0, False)[0]
    expected = F.linear(x.double(), weight.double(), bias.double())
    assert torch.equal(torch.isfinite(y), torch.isfinite(expected))
    assert torch.equal(y.isnan(), expected.isnan())
    y, _, moments, _ = LINEAR_ACT(x, weight, bias, "tanh", 0.0, 0.0, False)
    assert moments[0, 1] == 69
    assert moments[1, 1] == (69 if math.isnan(bad) else 0)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e17, 1e25])
def test_std_at_extreme_scales(scale):
    x, weight = normal(130, 70) * scale, normal(90, 70)
    y, _, moments, _ = LINEAR_ACT(x, weight, None, "identity", 0.0, 0.0, False)
    assert_row(moments[0], y)
    assert torch.equal(moments[0], moments[1])


def test_overflow_is_counted():
    x = torch.full((40, 64), 1e30)
    weight = torch.full((3, 64), 1e10)
    weight[1] = 1e-10
    _, _, moments, live = LINEAR_ACT(x, weight, None, "relu", 0.0, 0.0, False)
    assert moments[0, 1] == moments[1, 1] == 80
    assert moments[1, 6].item() == pytest.approx(64e20, rel=1e-5)
    assert live.all()


def test_dead_units():
    x = torch.rand(200, 30) + 0.1
    weight = torch.rand(131, 30)
    dead = [0, 63, 64, 130]
    weight[dead] *= -1
    _, _, moments, live = LINEAR_ACT(x, weight, None, "relu", 0.0, 0.0, False)
    assert (~live).nonzero().flatten().tolist() == dead
    assert moments[1, 2] == 4 * 200
    x[199] = -1  # one row alone revives them
    assert LINEAR_ACT(x, weight, None, "relu", 0.0, 0.0, False)[3].all()


def test_saturated_values_are_counted():
    z = torch.linspace(-4, 4, 64 * 70).view(70, 64)
    _, _, moments, _ = LINEAR_ACT(z, torch.eye(64), None, "tanh", 0.0, 0.0, False)
    assert moments[1, 3] == (1 - torch.tanh(z.double()) ** 2 < 0.06).sum()
    assert moments[0, 3] == 0


@pytest.mark.parametrize("size", [(16, 256, 256), (33, 1500, 300), (1, 300, 5000), (64, 9, 650)])
@pytest.mark.skipif(not NATIVE, reason="plain PyTorch's own sums depend on its threads")
def test_small_batches_in_float32_give_the_same_bits_on_any_number_of_threads(size):
    """These run on the kernel of our own. The library's product may depend on its threads."""
    rows, depth, cols = size
    x, weight, bias = normal(rows, depth), normal(cols, depth), normal(cols)
    seen = set()
    for threads in (1, 2, 4, 16):
        torch.set_num_threads(threads)
        results = LINEAR_ACT(x, weight, bias, "tanh", 0.0, 0.0, True)
        seen.add(b"".join(t.numpy().tobytes() for t in results))
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.skipif(not NATIVE, reason="plain PyTorch's own sums depend on its threads")
def test_given_z_the_moments_of_the_library_path_do_not_depend_on_threads(dtype):
    x, weight = normal(1100, 64, dtype=dtype), normal(64, 200, dtype=dtype).t()
    seen = {}
    for threads in (1, 2, 4, 16):
        torch.set_num_threads(threads)
        y, z, moments, live = LINEAR_ACT(x, weight, None, "gelu", 0.0, 0.0, True)
        rest = b"".join(t.double().numpy().tobytes() for t in (y, moments, live))
        key = z.double().numpy().tobytes()
        assert seen.setdefault(key, rest) == rest


def test_the_function_chooses_save_z_and_hides_it():
    x, weight = normal(3, 4), normal(5, 4).requires_grad_()
    y, moments, live = ops.linear_act(x, weight, act="tanh")
    assert y.requires_grad and not moments.requires_grad and not live.requires_grad
    with torch.no_grad():
        assert not ops.linear_act(x, weight, act="tanh")[0].requires_grad
    with torch.inference_mode():
        assert torch.equal(ops.linear_act(x, weight, act="tanh")[0], y)


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1.0, 1e17, 1e36])
@pytest.mark.parametrize("rows", [0, 1, 70, 600])
def test_moments_of_the_weight_at_any_scale_and_batch(scale, rows):
    weight = normal(131, 77) * scale
    moments = LINEAR_ACT(normal(rows, 77), weight, None, "relu", 0.0, 0.0, False)[2]
    assert_row(moments[2], weight)


@pytest.mark.parametrize("depth", [1, 3, 4, 255, 1024, 1100, 4100])
@pytest.mark.parametrize("cols", [0, 1, 3, 5, 64, 66])
def test_moments_of_the_weight_of_any_shape(depth, cols):
    x, weight = normal(3, depth), normal(cols, depth) + 3
    assert_row(LINEAR_ACT(x, weight, None, "tanh", 0.0, 0.0, False)[2][2], weight)


def test_moments_of_a_weight_with_rows_apart_shared_or_reversed():
    x = normal(5, 40)
    apart, shared = normal(9, 60)[:, 10:50], normal(40).expand(9, 40)
    for weight in (apart, shared, apart.flip(0), normal(40, 9).t(), normal(9, 1).expand(9, 40)):
        assert_row(LINEAR_ACT(x, weight, None, "tanh", 0.0, 0.0, False)[2][2], weight)


def test_moments_of_a_weight_with_values_that_are_not_finite():
    weight = normal(70, 300)
    weight[3, 7], weight[69, 299], weight[5] = NAN, -INF, 0.0
    assert_row(LINEAR_ACT(normal(2, 300), weight, None, "tanh", 0.0, 0.0, False)[2][2], weight)
