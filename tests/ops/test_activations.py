"""The activations' values and slopes against float64: ordinary numbers, tails, kinks, specials."""

import math

import pytest
import torch
from cases.operators import ACTIVATION_IDS, ACTIVATIONS, DTYPES, plain, true_slope, true_value

from initfast import ops
from initfast.ops import activations, reference
from initfast.ops.activations import ACTIVATIONS as KNOWN
from initfast.ops.schemas import LIBRARY

CHAIN_BACKWARD = torch.ops.initfast.linear_act_chain_backward
INF, NAN = math.inf, math.nan
KINKS = (-3.0, -1.0, -0.5, -0.0, 0.0, 0.625, 0.75, 1.0, 2.5, 3.0, 6.0, 20.0)
SPECIALS = (NAN, INF, -INF, 1e-45, -1e-45, 1e-39, -1e-39, 0.0, -0.0)

each_activation = pytest.mark.parametrize(
    ("name", "alpha", "beta"), ACTIVATIONS, ids=ACTIVATION_IDS
)


def numbers(dtype, largest=104.0):
    """Every magnitude up to `largest`, dense where the functions bend, with the kinks."""
    dense = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    wide = torch.linspace(-largest, largest, 20_001, dtype=torch.float64)
    small = 10 ** torch.linspace(-44, 0, 5_001, dtype=torch.float64)
    return torch.cat([dense, wide, small, -small, torch.tensor(KINKS, dtype=torch.float64)]).to(
        dtype
    )


def by_torch(name, z, alpha, beta):
    """torch's own, by its vectors: oneDNN (AVX-512) has a gelu of other numbers."""
    torch._C._set_mkldnn_enabled(False)
    try:
        return activations.ACTIVATIONS[name].value(z, alpha, beta)
    finally:
        torch._C._set_mkldnn_enabled(True)


def ulp(truth, dtype):
    """The distance between neighbours of `dtype` at each value."""
    info = torch.finfo(dtype)
    return truth.abs().clamp(min=info.tiny).log2().floor().exp2() * info.eps


def native_only():
    if LIBRARY.backend == "reference":
        pytest.skip("the kernels' accuracy; the reference is as accurate as torch, which is less")


@each_activation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_are_within_4_ulp_at_an_input_1_ulp_away(name, alpha, beta, dtype):
    """4 ulp of the result (gelu: 6), and what one ulp of z changes: a steep function's least.

    A gate so small that it is subnormal is rounded before z multiplies it. gelu_tanh cancels where
    its gate is near zero, by its definition: there 4 ulp of z. The truth in float64 has float64's
    own error.
    """
    native_only()
    z = numbers(dtype)
    y, _, _ = ops.act(z, name, alpha, beta)
    truth = true_value(name, z, alpha, beta)
    wide = z.double()
    slope = true_slope(name, z, alpha, beta).abs()
    units = 6 if name == "gelu" else 4
    bound = units * ulp(wide if name == "gelu_tanh" else truth, dtype) + slope * ulp(wide, dtype)
    bound = bound + wide.abs().clamp(min=1) * torch.finfo(dtype).smallest_normal * ulp(
        torch.ones_like(wide), dtype
    )
    if dtype == torch.float64:
        bound = 2 * bound
    error = (y.double() - truth).abs()
    zero = by_torch(name, z, alpha, beta) == 0
    error[(y == 0) & (zero | is_edge(z, zero))] = 0  # another test says where
    worst = (error / bound).argmax()
    assert (error <= bound).all(), f"{name}({z[worst]}) = {y[worst]}, not {truth[worst]}"


@each_activation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zeros_are_where_torch_s_are(name, alpha, beta, dtype):
    """A tail that torch's formula rounds to zero is zero, so that dead units are the net's own."""
    native_only()
    z = numbers(dtype, 740.0)
    z = z[z.abs() > 1]  # the halves of float16's least number are another matter: a tie
    y, moments, _ = ops.act(z, name, alpha, beta)
    expected = by_torch(name, z, alpha, beta) == 0
    differ = ((y == 0) != expected) & ~is_edge(z, expected)
    assert not differ.any(), f"{name}({z[differ][0]}) = {y[differ][0]}"
    assert moments[1, 2] == (y == 0).sum()


def is_edge(z, zero):
    """Where torch's tail of zeros begins: its vectors' functions, and so the edge, vary a little.

    The kernels have the edge of the vectors of AVX2.
    """
    zeros = z[zero & (z.abs() > 1)].abs()
    if torch.backends.cpu.get_cpu_capability() == "AVX2" or not zeros.numel():
        return torch.zeros_like(zero)
    return (z.abs() - zeros.min()).abs() <= 0.05 * zeros.min()


def test_a_layer_deep_in_its_tail_is_dead():
    z = torch.full((8, 4), -7.0)
    z[0, 0] = 1
    _, moments, live = ops.act(z, "gelu")
    assert moments[1, 2] == 31 and live.tolist() == [True, False, False, False]


@each_activation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_values_are_float32_values_rounded_once(name, alpha, beta, dtype):
    native_only()
    z = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)  # every one there is
    y, _, _ = ops.act(z, name, alpha, beta)
    in_float32, _, _ = ops.act(z.float(), name, alpha, beta)
    assert torch.equal(y.isnan(), in_float32.isnan())
    assert torch.equal(y.nan_to_num(0), in_float32.to(dtype).nan_to_num(0))


@each_activation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_slopes(name, alpha, beta, dtype):
    z = numbers(dtype, 80.0)
    if dtype == torch.float16:
        z = z.clamp(-100, 100)
    ones = torch.ones_like(z)
    slope, _ = torch.ops.initfast.act_backward(ones, z, name, alpha, beta)
    truth = true_slope(name, z, alpha, beta)
    epsilon = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    # Slopes are differences and products of terms no larger than |z| and 1.
    bound = 4 * epsilon * (1 + truth.abs() + z.double().abs().clamp(max=20))
    if dtype in (torch.bfloat16, torch.float16):
        bound = 0.51 * ulp(truth, dtype) + 2e-5
    error = (slope.double() - truth).abs()
    worst = (error / bound).argmax()
    assert (error <= bound).all(), f"{name}'({z[worst]}) = {slope[worst]}, not {truth[worst]}"


KEEP_RESULTS = {  # torch's backwards that take their slope at the result
    "relu": lambda grad, y: torch.ops.aten.threshold_backward(grad, y, 0),
    "sigmoid": torch.ops.aten.sigmoid_backward,
    "tanh": torch.ops.aten.tanh_backward,
}


def test_slopes_at_results_are_known_where_torch_takes_them_there():
    """Of no others: a net may write to a result that torch's backward does not need."""
    found = {name for name, act in KNOWN.items() if act.backward_at_result is not None}
    assert found == KEEP_RESULTS.keys()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", KEEP_RESULTS)
def test_slopes_at_results(name, dtype):
    """Those at the pre-activation, to the bit where y is not rounded; and torch's at the result."""
    z = torch.cat([numbers(dtype), torch.tensor(SPECIALS, dtype=dtype)])
    y, _, _ = ops.act(z, name)
    at_z, at_y = slope_in_a_chain(name, z, False), slope_in_a_chain(name, y, True)
    unrounded = dtype in (torch.float32, torch.float64) and LIBRARY.backend == "native"
    if unrounded or name == "relu":
        assert torch.equal(at_z.nan_to_num(7), at_y.nan_to_num(7))
    else:
        assert torch.equal(at_z.isnan(), at_y.isnan())
        apart = (at_y.double() - at_z.double()).abs().nan_to_num(0)
        assert (apart <= 4 * torch.finfo(dtype).eps).all()
    finite = y.isfinite()
    torchs = KEEP_RESULTS[name](torch.ones_like(y), y)[finite].double()
    apart = (at_y[finite].double() - torchs).abs()
    assert (apart <= torch.finfo(dtype).eps).all()


@pytest.mark.parametrize("at_result", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_chain_stops_infinite_gradients_where_relu_is_flat(dtype, at_result):
    z = numbers(dtype)
    at = z.relu() if at_result else z
    grad = slope_in_a_chain("relu", at, at_result, times=INF)
    assert torch.equal(grad, torch.where(z > 0, INF, 0.0).to(dtype))


def slope_in_a_chain(name, at, at_result, times=1.0):
    """The slopes of a chain of one layer, at its pre-activation or its result, times a gradient."""
    x, weight, grad = at.new_zeros(1, 1), at.new_zeros(at.numel(), 1), torch.full_like(at, times)
    call = [name], [0.0], [0.0], [at_result], False, [0], [True]
    found = CHAIN_BACKWARD(grad[None], [x], [weight], [at[None]], *call)
    return found[2][0]


@each_activation
@pytest.mark.parametrize("kernel", ["value", "slope"])
def test_a_number_gives_the_same_bits_wherever_it_lies(name, alpha, beta, kernel):
    """In a vector or in the last few that fill none. Not so in torch, nor in the reference."""
    native_only()
    z = torch.cat([torch.randn(15) * 4, torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1e-41, 89.0])])

    def run(x):
        if kernel == "value":
            return torch.ops.initfast.act(x, name, alpha, beta, -1)[0]
        return torch.ops.initfast.act_backward(torch.ones_like(x), x, name, alpha, beta)[0]

    whole = run(z.repeat(16))
    alone = torch.cat([run(one[None]) for one in z]).repeat(16)
    assert torch.equal(whole.isnan(), alone.isnan())
    assert torch.equal(whole.nan_to_num(0).view(torch.int32), alone.nan_to_num(0).view(torch.int32))


@each_activation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_values_propagate_as_in_torch(name, alpha, beta, dtype):
    # torch's float64 is the standard: its gelu of infinity is NaN or not by dtype and place.
    z = torch.tensor(SPECIALS, dtype=dtype).repeat(5)
    y, moments, _ = torch.ops.initfast.act(z, name, alpha, beta, -1)
    expected = true_value(name, z, alpha, beta).to(dtype)
    tiny = torch.finfo(dtype).tiny
    assert torch.allclose(y, expected, rtol=1e-2, atol=tiny, equal_nan=True)
    assert moments[0, 1] == 5 * 3
    assert moments[1, 1] == (~torch.isfinite(expected)).sum()


@each_activation
def test_zero_keeps_its_sign(name, alpha, beta):
    if true_value(name, torch.zeros(()), alpha, beta) != 0:
        return
    y, moments, _ = ops.act(torch.tensor([-0.0, 0.0] * 20), name, alpha, beta)
    assert moments[:, 2].tolist() == [40, 40]
    # torch's own gelu, which the reference is, gives 0 for -0 where oneDNN computes it (AVX-512).
    if name != "gelu" or LIBRARY.backend != "reference":
        assert torch.equal(torch.signbit(y), torch.tensor([True, False] * 20))


@each_activation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_slopes_at_kinks_follow_torch(name, alpha, beta, dtype):
    z = torch.tensor([*KINKS, 5e-324, -1e-40] * 3, dtype=dtype)
    wanted = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(plain(name, wanted, alpha, beta).sum(), wanted)
    slope, _ = torch.ops.initfast.act_backward(torch.ones_like(z), z, name, alpha, beta)
    assert torch.allclose(slope, expected, rtol=1e-5, atol=1e-6, equal_nan=True), (slope, expected)


@each_activation
def test_slopes_at_nan_are_the_reference_s(name, alpha, beta):
    """torch has no one rule here: its vectors and their remainders differ."""
    z = torch.tensor([NAN] * 20)
    arguments = torch.ones_like(z), z, name, alpha, beta
    slope, _ = torch.ops.initfast.act_backward(*arguments)
    assert torch.equal(slope.nan_to_num(7), reference.act_backward(*arguments)[0].nan_to_num(7))


@each_activation
def test_slopes_at_infinity_are_limits_or_nan(name, alpha, beta):
    z = torch.tensor([INF, -INF] * 9)
    slope, _ = torch.ops.initfast.act_backward(torch.ones_like(z), z, name, alpha, beta)
    limit = true_slope(name, torch.tensor([1e4, -1e4] * 9), alpha, beta)
    assert (torch.isclose(slope.double(), limit, atol=1e-7) | slope.isnan()).all()
