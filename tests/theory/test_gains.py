"""The gains of 36 activations against 30-digit ones, and against closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import initfast
from initfast.errors import ArgumentError
from initfast.ops.activations import ACTIVATIONS
from initfast.theory import chi, gain, q_slope


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def sin_30(x):
    return torch.sin(30 * x)


def relu_squared(x):
    return torch.relu(x) ** 2


def lecun_tanh(x):
    return 1.7159 * torch.tanh(2 * x / 3)


# Tanh-sinh quadrature between the kinks, with mpmath at 30 digits: the three gains and Q'(1).
# fmt: off
KNOWN = [
    ("identity", 1.0, 1.0, 1.0, 1.0),
    ("relu", 1.414213562373095, 1.7128585504496627, 1.414213562373095, 1.0),
    ("leaky_relu", 1.4141428569978354, 1.7048316271773367, 1.4141428569978354, 1.0),
    (nn.LeakyReLU(0.2), 1.3867504905630728, 1.5464600603608725, 1.3867504905630728, 1.0),
    (nn.PReLU(), 1.3719886811400708, 1.504609643215645, 1.3719886811400708, 1.0),
    (nn.RReLU().eval(), 1.3784796645460573, 1.5219953443844163, 1.3784796645460573, 1.0),
    ("elu", 1.2451983007007066, 1.2708434178501966, 1.223428557552621, 0.8909679718555756),
    ("celu", 1.2451983007007066, 1.2708434178501966, 1.223428557552621, 0.8909679718555756),
    ("selu", 1.0, 1.0, 0.9660257769739011, 0.7826478831968129),
    ("relu6", 1.4142135650950738, 1.7128585549723954, 1.4142135637683406, 0.9999999289656892),
    ("gelu", 1.5335304411955353, 1.7009262433633332, 1.4811144127083482, 1.1440631968725838),
    ("gelu_tanh", 1.533580521666147, 1.7009165616954505, 1.4811680580933506, 1.144298266155471),
    (quick_gelu, 1.5394587622988314, 1.7093585898912749, 1.491459226750051, 1.1364605638781362),
    ("silu", 1.676532470331091, 1.787187222100442, 1.6233202579524972, 1.1725940540987494),
    ("mish", 1.486847581273208, 1.5920253810994462, 1.4447552325473194, 1.0763388163613195),
    ("softplus", 1.0418668355353018, 1.9191259801076563, 1.8462285453386054, 0.49205317290463196),
    ("softsign", 2.3375333631085398, 2.3375333631085398, 2.095780608943311, 0.47671156044241286),
    ("sigmoid", 1.8462285453386054, 4.801313372039962, 4.722646085937974, 0.1063410747410055),
    ("logsigmoid", 1.0418668355353018, 1.9191259801076563, 1.8462285453386054, 0.49205317290463196),
    ("tanh", 1.5925374197228315, 1.5925374197228315, 1.467413591630795, 0.46107083047763137),
    ("hardtanh", 1.3920361404483097, 1.3920361404483097, 1.2102870624325224, 0.38512692547854793),
    ("hardsigmoid", 1.897840424729559, 6.015034486637097, 6.008115825196681, 0.09711940036285842),
    ("hardswish", 1.7366572127665416, 1.8138714738131827, 1.6700763674413823, 1.2239202619778418),
    (torch.erf, 1.4671669504891387, 1.4671669504891387, 1.3252183528612111, 0.40856666792856355),
    (torch.sin, 1.5208666231788148, 1.5208666231788148, 1.3272506002845752, 0.3130352854993313),
    (sin_30, 1.414213562373095, 1.414213562373095, 0.04714045207910317, 0.0),
    (torch.cos, 1.3272506002845752, 2.237252914212928, 1.5208666231788148, -0.23840584404423512),
    (torch.exp, 0.36787944117144233, 0.46270645737647115, 0.36787944117144233, 2.0),
    (relu_squared, 0.816496580927726, 0.8944271909999159, 0.7071067811865476, 2.0),
    (nn.Tanhshrink(),
     2.3383675301021216, 2.3383675301021216, 1.9881388232490018, 1.8262013676661388),
    (nn.Softshrink(),
     1.5443605282801334, 1.5443605282801334, 1.2730076010313076, 1.4717545687229654),
    (nn.Hardshrink(), 1.015796354719734, 1.015796354719734, None, 1.0454094841718276),
    (torch.atan, 1.491207618134209, 1.491207618134209, 1.414213562373095, 0.5608190318090291),
    (lecun_tanh, 1.1543694539761429, 1.1543694539761429, 1.1152568925388144, 0.615446293699983),
    (torch.abs, 1.0, 1.6588967399703058, 1.0, 1.0),
    (torch.square, 0.5773502691896257, 0.7071067811865476, 0.5, 2.0),
]
# fmt: on


def label(value):
    return value if isinstance(value, str) else getattr(value, "__name__", str(value))


@pytest.mark.parametrize("f, rms, std, backward, slope", KNOWN, ids=label)
def test_gains_to_twelve_digits(f, rms, std, backward, slope):
    assert gain(f) == gain(f, "rms") == pytest.approx(rms, rel=1e-13)
    assert gain(f, "std") == pytest.approx(std, rel=1e-12)
    assert q_slope(f) == pytest.approx(slope, rel=1e-12, abs=1e-13)
    if backward is not None:
        assert gain(f, "backward") == pytest.approx(backward, rel=1e-12)
        assert chi(f) == pytest.approx((rms / backward) ** 2, rel=1e-12)


def test_every_activation_of_ours_is_known():
    assert set(ACTIVATIONS) <= {f for f, *_ in KNOWN if isinstance(f, str)}


@pytest.mark.parametrize(
    "f, second",
    [
        ("relu", 1 / 2),
        (nn.LeakyReLU(0.3), (1 + 0.09) / 2),
        ("gelu", 1 / 3 + 1 / (2 * math.pi * math.sqrt(3))),
        (torch.erf, 2 / math.pi * math.asin(2 / 3)),
        (
            "elu",
            1
            + math.exp(2) * math.erfc(math.sqrt(2)) / 2
            - math.exp(0.5) * math.erfc(math.sqrt(0.5)),
        ),
        ("selu", 1.0),
        (torch.sin, (1 - math.exp(-2)) / 2),
        (torch.exp, math.exp(2)),
        (relu_squared, 3 / 2),
    ],
    ids=label,
)
def test_gains_in_closed_form(f, second):
    assert gain(f) == pytest.approx(second**-0.5, rel=1e-14)


def test_closed_forms_of_the_other_kinds():
    assert gain("relu", "std") == pytest.approx((0.5 - 0.5 / math.pi) ** -0.5, rel=1e-14)
    assert gain("gelu", "std") ** -2 == pytest.approx(gain("gelu") ** -2 - 0.25 / math.pi, 1e-14)
    assert gain(torch.erf, "backward") ** -2 == pytest.approx(4 / math.pi / 5**0.5, rel=1e-14)


@settings(deadline=None)
@given(st.floats(-3.0, 3.0))
def test_a_leaky_relu_of_any_slope(slope):
    leaky = nn.LeakyReLU(slope)
    exact = ((1 + slope**2) / 2) ** -0.5
    assert gain(leaky) == pytest.approx(exact, rel=1e-14)
    assert gain(leaky, "backward") == pytest.approx(exact, rel=1e-13)
    assert q_slope(leaky) == pytest.approx(1.0, rel=1e-13)


@settings(deadline=None)
@given(st.floats(0.01, 100.0))
def test_a_factor_on_the_output_divides_the_gain(factor):
    for kind in ("rms", "std", "backward"):
        scaled = gain(lambda x: factor * torch.nn.functional.elu(x), kind)
        assert scaled == pytest.approx(gain("elu", kind) / factor, rel=1e-13)


def test_a_name_a_module_and_a_function_are_one():
    assert gain("gelu") == gain(nn.GELU()) == gain(torch.nn.functional.gelu)
    assert gain("hardtanh") == gain(nn.Hardtanh()) == gain(nn.Sequential(nn.Hardtanh()))


def test_a_module_stays_as_it_is():
    act = nn.PReLU(init=0.1)
    assert gain(act) == pytest.approx(gain(nn.LeakyReLU(act.weight.item())), rel=1e-14)
    assert act.weight.dtype == torch.float32 and act.weight.grad is None
    assert gain(nn.ReLU(inplace=True)) == gain(torch.relu_) == gain("relu")


def test_the_number_of_threads_stays():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    gain(torch.tanh)
    with pytest.raises(ArgumentError):
        gain(torch.log)
    assert torch.get_num_threads() == before + 1


@pytest.mark.parametrize(
    "f, reason",
    [
        ("swish", "unknown activation 'swish'; expected one of identity, relu,"),
        (3, "the activation is 3; expected the name"),
        (nn.Softmax(-1), "Softmax gives an element another value in other company"),
        (lambda x: x - x.mean(), "in other company; expected a function that takes each element"),
        (lambda x: x.cumsum(0), "in other company"),
        (nn.GLU(), r"GLU made \[8\] of a tensor of \[16\]"),
        (nn.LayerNorm(5), "LayerNorm fails on a float64 tensor of .16.: RuntimeError"),
        (nn.PReLU(8), "PReLU fails on a float64 tensor"),
        (nn.RReLU(), "RReLU gave two answers for one input; .* after eval"),
        (nn.Dropout(), "Dropout gave two answers"),
        (torch.rand_like, "rand_like gave two answers"),
        (lambda x: x.int(), "returned torch.int32 on cpu for torch.float64"),
        (lambda x: x.float(), "returned torch.float32 on cpu"),
        (lambda x: x > 0, "returned torch.bool"),
        (lambda x: None, "returned NoneType; expected a tensor"),
        (torch.log, "log is nan at -"),
        (lambda x: torch.full_like(x, math.nan), "is nan at"),
        (torch.zeros_like, "zeros_like is 0 everywhere"),
    ],
)
def test_what_is_no_activation_is_named(f, reason):
    with pytest.raises(ArgumentError, match=reason):
        gain(f)


@pytest.mark.parametrize(
    "f, kind, reason",
    [
        ("tanh", "forward", "kind is 'forward'; expected one of rms, std, backward"),
        (torch.ones_like, "std", "ones_like is constant"),
        (torch.ones_like, "backward", "ones_like is flat everywhere"),
        (torch.sign, "backward", "sign jumps"),
        (nn.Hardshrink(), "backward", "Hardshrink jumps"),
    ],
)
def test_gains_that_are_not_there(f, kind, reason):
    with pytest.raises(ArgumentError, match=reason):
        gain(f, kind)


def test_the_table_of_torch_and_ours_differ_where_the_docstring_says():
    for name, ours, torchs in (("tanh", 1.5925, 5 / 3), ("selu", 1, 3 / 4), ("sigmoid", 1.8462, 1)):
        assert gain(name) == pytest.approx(ours, abs=5e-5)
        assert initfast.init.calculate_gain(name) == torchs
