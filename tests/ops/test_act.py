"""act and act_backward, and what all operators share."""

from itertools import pairwise

import pytest
import torch
from cases.operators import (
    ACTIVATION_IDS,
    ACTIVATIONS,
    DTYPES,
    SHAPES,
    assert_row,
    has_plateau,
    layouts,
    plain,
    true_slope,
    true_value,
)

from initfast import ops
from initfast.ops import activations
from initfast.ops.schemas import LIBRARY

OPS = torch.ops.initfast
each_activation = pytest.mark.parametrize(
    ("name", "alpha", "beta"), ACTIVATIONS, ids=ACTIVATION_IDS
)
# How far apart two right answers may be: the reference uses torch's own activations.
TOLERANCE = {
    torch.float32: {"rtol": 2e-5, "atol": 2e-6},
    torch.float64: {"rtol": 1e-12, "atol": 1e-14},
    torch.bfloat16: {"rtol": 2e-2, "atol": 1e-3},
    torch.float16: {"rtol": 2e-3, "atol": 1e-4},
}


# act


@each_activation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_act_of_every_shape(name, alpha, beta, dtype):
    for shape in SHAPES:
        z = (torch.randn(shape, dtype=torch.float64) * 3).to(dtype)
        check_act(z, name, alpha, beta, -1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_act_of_every_layout_and_unit_dimension(shape, dtype):
    for z in layouts(shape, dtype).values():
        for unit_dim in range(-len(shape), len(shape)) or [0, -1, 7]:
            check_act(z, "relu", 0.0, 0.0, unit_dim)
        check_act(z, "tanh", 0.0, 0.0, -1)


def check_act(z, name, alpha, beta, unit_dim):
    y, moments, live = OPS.act(z, name, alpha, beta, unit_dim)
    truth = true_value(name, z, alpha, beta)
    assert (y.shape, y.dtype) == (z.shape, z.dtype)
    assert y.stride() == torch.empty_like(z).stride()
    assert torch.allclose(y.double(), truth, **TOLERANCE[z.dtype])
    assert moments.shape == (2, 12)
    assert_row(moments[0], z)
    assert_row(moments[1], y, saturated_count(name, z, y, alpha, beta))
    others = [d for d in range(z.dim()) if d != unit_dim % max(1, z.dim())]
    nonzero = y != 0
    expected = nonzero.sum(others).bool() if others else nonzero.reshape(-1)
    assert (live.dtype, live.tolist()) == (torch.bool, expected.tolist())
    check_act_in_place(z, (name, alpha, beta, unit_dim), y, moments, live)


def check_act_in_place(z, arguments, y, moments, live):
    """It leaves the same bits as act returns, wherever z lies in memory."""
    if torch._debug_has_internal_overlap(z) == 1:
        z = z.contiguous()  # torch refuses to write where elements share memory
    place = torch.empty_strided(z.shape, z.stride(), dtype=z.dtype).copy_(z)
    version = place._version
    moments_in_place, live_in_place = ops.act_(place, *arguments)
    torch.testing.assert_close(place, y, rtol=0, atol=0, equal_nan=True)
    assert place._version > version and torch.equal(live_in_place, live)
    torch.testing.assert_close(moments_in_place, moments, rtol=1e-6, atol=0, equal_nan=True)


def saturated_count(name, z, y, alpha, beta):
    """By the rule as it is written in the reference, on the values before they were rounded."""
    rule = activations.ACTIVATIONS[name].saturated
    if rule is None:
        return 0
    if y.dtype in (torch.bfloat16, torch.float16):
        y, _, _ = OPS.act(z.float(), name, alpha, beta, -1)
    return rule(y, alpha, beta).sum().item()


@each_activation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_saturated_is_a_slope_under_6_percent_of_the_steepest(name, alpha, beta, dtype):
    z = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-104.0, 104.0])]).to(dtype)
    if name == "relu6":
        z = z[z > 0]  # its zeros are zeros
    _, moments, _ = ops.act(z, name, alpha, beta)
    slope = true_slope(name, z, alpha, beta)
    ratio = slope / true_slope(name, torch.linspace(-8, 8, 160_001), alpha, beta).max()
    margin = 1e-5  # of float32 roundings, for those next to the line
    surely, perhaps = (ratio < 0.06 - margin).sum(), (ratio < 0.06 + margin).sum()
    if not has_plateau(name, alpha, beta):
        surely = perhaps = torch.tensor(0)
    assert surely <= moments[1, 3] <= perhaps
    assert moments[0, 3] == 0


def test_saturation_in_the_words_of_the_design():
    def saturated(name, y):
        z = {"tanh": torch.atanh, "sigmoid": torch.logit}[name](torch.tensor(y))
        return ops.act(z, name)[1][1, 3].item()

    assert saturated("tanh", [0.965, -0.965, 0.0]) == 0
    assert saturated("tanh", [0.975, -0.975]) == 2
    assert saturated("sigmoid", [0.016, 0.5, 0.984]) == 0
    assert saturated("sigmoid", [0.014, 0.986]) == 2
    z = torch.tensor([-7.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0, 7.0])
    assert ops.act(z, "hardtanh")[1][1, 3] == 7
    assert ops.act(z, "hardsigmoid")[1][1, 3] == 5
    assert ops.act(z, "relu6")[1][1, 2:4].tolist() == [4, 2]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_unit_is_dead_when_it_is_zero_over_the_whole_batch(dtype):
    z = -torch.rand(130, 70).to(dtype) - 1
    z[129, 5] = 1
    z[0, 69] = torch.nan
    z[64, 64] = 6e-8
    _, _, live = ops.act(z, "relu")
    assert live.nonzero().flatten().tolist() == [5, 64, 69]
    _, _, live = ops.act(z, "relu", unit_dim=0)
    assert live.nonzero().flatten().tolist() == [0, 64, 129]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_dead_channels_of_a_convolution(memory_format):
    z = torch.randn(3, 67, 9, 8).contiguous(memory_format=memory_format)
    z[:, 3] = -1
    z[:, 66] = -2
    z[2, 66, 8, 7] = 1
    _, _, live = ops.act(z, "relu", unit_dim=1)
    assert (~live).nonzero().flatten().tolist() == [3]


def test_act_leaves_its_input_alone():
    z = torch.randn(5000)
    kept = z.clone()
    ops.act(z, "relu")
    assert torch.equal(z, kept)


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_parameters_default_to_torch_s(name):
    z = torch.randn(1000) * 4
    function = getattr(torch.nn.functional, name, None)
    expected = plain(name, z, 0, 0) if function is None else function(z)
    assert torch.allclose(ops.act(z, name)[0], expected, **TOLERANCE[torch.float32])


def test_one_parameter_given_and_one_by_default():
    z = torch.randn(1000) * 4
    expected = torch.nn.functional.hardtanh(z, -2.0)
    assert torch.equal(ops.act(z, "hardtanh", alpha=-2.0)[0], expected)


@pytest.mark.skipif(
    LIBRARY.backend == "reference", reason="plain PyTorch's own sums depend on its threads"
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_act_gives_the_same_bits_on_any_number_of_threads(dtype):
    z = torch.randn(700, 301).to(dtype)
    seen = set()
    for threads in (1, 2, 4, 16):
        torch.set_num_threads(threads)
        y, moments, live = OPS.act(z, "gelu", 0.0, 0.0, -1)
        seen.add((y.double().numpy().tobytes(), moments.numpy().tobytes(), live.numpy().tobytes()))
    assert len(seen) == 1


# act_backward


@each_activation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_act_backward(name, alpha, beta, dtype):
    for shape in SHAPES:
        z = (torch.randn(shape, dtype=torch.float64) * 2).to(dtype)
        check_act_backward(torch.randn(shape).to(dtype), z, name, alpha, beta)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_act_backward_of_every_pair_of_layouts(shape):
    ways = list(layouts(shape).values())
    for z, grad_y in [*pairwise(ways), *pairwise(ways[::-1])]:
        check_act_backward(grad_y, z, "tanh", 0.0, 0.0)


def check_act_backward(grad_y, z, name, alpha, beta):
    grad_z, moments = OPS.act_backward(grad_y, z, name, alpha, beta)
    truth = grad_y.double() * true_slope(name, z, alpha, beta)
    assert (grad_z.shape, grad_z.dtype) == (z.shape, z.dtype)
    assert grad_z.stride() == torch.empty_like(z).stride()
    assert torch.allclose(grad_z.double(), truth, **TOLERANCE[z.dtype])
    assert_row(moments[0], grad_z)
    assert_row(moments[1], grad_y)


# Registration


def samples(requires_grad):
    """Arguments for every operator: (operator, arguments)."""

    def t(*shape, dtype=torch.float32):
        return torch.randn(shape, dtype=dtype).requires_grad_(requires_grad)

    for dtype in (torch.float32, torch.bfloat16):
        w, b = t(9, 7, dtype=dtype), t(9, dtype=dtype)
        yield OPS.linear_act, (t(2, 3, 7, dtype=dtype), w, b, "elu", 1.0, 0.0, requires_grad)
    yield OPS.linear_act, (t(5, 7), t(9, 7), None, "identity", 0.0, 0.0, requires_grad)
    yield OPS.act, (t(5, 7, dtype=torch.float64), "softplus", 1.0, 20.0, -1)
    yield OPS.moments, (t(5, 7),)
    yield OPS.linear_act, (t(7, 5).t(), t(7, 9).t(), t(9), "sigmoid", 0.0, 0.0, True)
    yield OPS.linear_act, (t(0, 7), t(9, 7), t(9), "tanh", 0.0, 0.0, True)
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    yield OPS.act, (image.requires_grad_(requires_grad), "silu", 0.0, 0.0, -3)
    cropped = torch.randn(2, 3, 6, 8).contiguous(memory_format=torch.channels_last)[:, :, 1:, ::2]
    yield OPS.act, (cropped.requires_grad_(requires_grad), "identity", 0.0, 0.0, 1)
    yield OPS.act, (torch.randn(4, 1).expand(4, 3).requires_grad_(requires_grad), "celu", 1, 0, 0)
    yield OPS.act, (t(), "tanh", 0.0, 0.0, 0)
    yield OPS.moments, (t(3, 0),)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(requires_grad):
    """Schema, autograd registration, fake tensors, and AOT dispatch with dynamic shapes."""
    for operator, arguments in samples(requires_grad):
        torch.library.opcheck(operator.default, arguments)


def test_opcheck_of_act_in_place():
    torch.library.opcheck(OPS.act_, (torch.randn(4, 3), "tanh", 0.0, 0.0, -1))


def test_opcheck_of_act_backward():
    image = torch.randn(2, 3, 4, 5)
    for z in (image, image.contiguous(memory_format=torch.channels_last), image[..., ::2]):
        for grad in (torch.randn(z.shape), torch.ones(()).expand(z.shape), torch.randn_like(z)):
            torch.library.opcheck(OPS.act_backward.default, (grad, z, "mish", 0.0, 0.0))


def test_outputs_never_alias_inputs():
    z = torch.randn(4, 4)
    w = torch.eye(4)
    for y in (
        ops.act(z, "identity")[0],
        ops.linear_act(z, w)[0],
        OPS.act_backward(z, z, "identity", 0.0, 0.0)[0],
    ):
        assert y.data_ptr() not in (z.data_ptr(), w.data_ptr())


def test_autocast_leaves_the_operators_alone():
    x, w = torch.randn(3, 4), torch.randn(5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.linear_act(x, w, act="tanh")[0].dtype == torch.float32
        assert ops.act(x, "tanh")[0].dtype == torch.float32
