"""Gradients: gradcheck in float64, plain torch in float32, and what has none says so."""

import pytest
import torch
import torch.nn.functional as F
from cases.operators import ACTIVATION_IDS, ACTIVATIONS, DTYPES, plain

from initfast import ops
from initfast.ops import reference
from initfast.ops.activations import ACTIVATIONS as KNOWN

OPS = torch.ops.initfast
each_activation = pytest.mark.parametrize(
    ("name", "alpha", "beta"), ACTIVATIONS, ids=ACTIVATION_IDS
)
# Where an activation bends: finite differences must not straddle these.
KINKS = (-3.0, -1.0, -0.5, 0.0, 0.75, 1.0, 2.5, 3.0, 6.0, 20.0)

INF, NAN = float("inf"), float("nan")
# Plateaus, kinks, hardswish's minimum, and where exponentials are subnormal.
EVERYWHERE = (
    *(NAN, INF, -INF, -200.0, 200.0, -103.5, -90.0, 90.0, -20.0, 20.25, -3.0, -2.5, -1.5, -1.0),
    *(-0.5, -0.25, -0.0, 0.0, 0.25, 0.75, 1.0, 2.5, 3.0, 4.0, 6.0, 7.0),
)


def double(*shape, scale=2.0):
    return (torch.randn(shape, dtype=torch.float64) * scale).requires_grad_()


def away_from_kinks(z):
    z = z.detach()
    for kink in KINKS:
        z = torch.where((z - kink).abs() < 1e-3, z + 0.01, z)
    return z.requires_grad_()


@each_activation
def test_act(name, alpha, beta):
    for z in (away_from_kinks(double(3, 7)), away_from_kinks(double(2, 3, 4).transpose(0, 2))):
        assert torch.autograd.gradcheck(lambda z: OPS.act(z, name, alpha, beta, -1)[0], z)


@each_activation
@pytest.mark.parametrize("bias", [True, False])
def test_linear_act(name, alpha, beta, bias):
    arguments = [double(4, 3, scale=1.0), double(5, 3, scale=1.0), double(5, scale=1.0)]
    if not bias:
        arguments[2] = None

    def y(*operands):
        return OPS.linear_act(*operands, name, alpha, beta, True)[0]

    z = F.linear(*arguments)
    assert min((z - kink).abs().min() for kink in KINKS) > 1e-5  # steps are of 1e-6
    assert torch.autograd.gradcheck(y, arguments)


def kinds(x):
    """Of each number: NaN, infinite with its sign, zero, or another."""
    return torch.where(x.isnan(), 7, torch.where(x.isinf(), x.sign() * 2, (x != 0).to(x.dtype)))


def gradient_by_torch(z, grad, name, alpha, beta):
    """Where torch takes the slope at what it keeps rounded to 16 bits, in float32."""
    if KNOWN[name].backward_at_result is not None or name == "logsigmoid":
        z = z.float() if z.element_size() == 2 else z
    z = z.clone().requires_grad_()
    y = F.gelu(z) if name == "gelu" else KNOWN[name].value(z, alpha, beta)
    y.backward(grad.to(z.dtype))
    return z.grad.to(grad.dtype)


@each_activation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_that_are_not_finite_become_what_they_do_in_torch(name, alpha, beta, dtype):
    """Zero where torch writes zero, NaN where it multiplies zero: in its vectors, of 64 numbers."""
    z = torch.tensor(EVERYWHERE, dtype=dtype).repeat_interleave(64)
    for size in (INF, -INF, NAN, 1.0):
        grad = torch.full_like(z, size)
        expected = kinds(gradient_by_torch(z, grad, name, alpha, beta))
        arguments = grad, z, name, alpha, beta
        for operator in (OPS.act_backward, reference.act_backward):
            grad_z, moments = operator(*arguments)
            assert torch.equal(kinds(grad_z), expected), (size, operator)
            assert moments[0, 1:3].tolist() == [(expected.abs() > 1).sum(), (expected == 0).sum()]
        leaf = z.clone().requires_grad_()
        OPS.act(leaf, name, alpha, beta, -1)[0].backward(grad)
        assert torch.equal(kinds(leaf.grad), expected)


def test_linear_act_of_many_leading_dimensions_and_layouts():
    x, weight, bias = double(3, 2, 4).transpose(0, 1), double(4, 5).t(), double(10)[::2]
    assert torch.autograd.gradcheck(
        lambda *operands: ops.linear_act(*operands, act="tanh")[0], (x, weight, bias)
    )
    assert torch.autograd.gradcheck(
        lambda *operands: ops.linear_act(*operands, act="tanh")[0], (double(4), weight, bias)
    )


def test_gradients_only_where_they_are_wanted():
    for wanted in range(3):
        operands = [torch.randn(4, 3), torch.randn(5, 3), torch.randn(5)]
        operands[wanted].requires_grad_()
        ops.linear_act(*operands, act="tanh")[0].sum().backward()
        assert [t.grad is not None for t in operands] == [i == wanted for i in range(3)]


@each_activation
def test_float32_gradients_are_plain_torch_s(name, alpha, beta):
    operands = [torch.randn(2, 35, 17), torch.randn(70, 17), torch.randn(70)]
    ours = [t.clone().requires_grad_() for t in operands]
    theirs = [t.clone().requires_grad_() for t in operands]
    upstream = torch.randn(2, 35, 70)
    y, _, _ = ops.linear_act(*ours, name, alpha, beta)
    y.backward(upstream)
    plain(name, F.linear(*theirs), alpha, beta).backward(upstream)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_gradients_have_their_dtype_and_the_right_size(dtype):
    operands = [torch.randn(8, 6), torch.randn(5, 6), torch.randn(5)]
    ours = [t.to(dtype).requires_grad_() for t in operands]
    exact = [t.detach().double().requires_grad_() for t in ours]
    ops.linear_act(*ours, act="silu")[0].float().square().sum().backward()
    F.silu(F.linear(*exact)).square().sum().backward()
    for a, b in zip(ours, exact, strict=True):
        assert a.grad.dtype == dtype
        assert (a.grad.double() - b.grad).norm() <= 0.03 * b.grad.norm()


@pytest.mark.parametrize("size", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
@pytest.mark.parametrize("name", ["identity", "tanh"])
def test_gradients_of_nothing(size, name):
    rows, depth, cols = size
    operands = [torch.randn(s, requires_grad=True) for s in ((rows, depth), (cols, depth), (cols,))]
    ops.linear_act(*operands, act=name)[0].sum().backward()
    again = [t.detach().clone().requires_grad_() for t in operands]
    y = F.linear(*again)
    (y if name == "identity" else torch.tanh(y)).sum().backward()
    for a, b in zip(operands, again, strict=True):
        assert torch.allclose(a.grad, b.grad)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_that_lies_otherwise_than_z(memory_format):
    z = torch.randn(2, 5, 3, 4).contiguous(memory_format=memory_format).requires_grad_()
    for upstream in (torch.ones(()).expand(z.shape), torch.randn(4, 3, 5, 2).permute(3, 2, 1, 0)):
        (grad,) = torch.autograd.grad(ops.act(z, "tanh", unit_dim=1)[0], z, upstream)
        assert torch.allclose(grad, upstream * (1 - torch.tanh(z.detach()) ** 2), atol=1e-6)


def test_moments():
    x = double(4, 5)
    for columns in (slice(4, 6), slice(4, 8), slice(9, 12)):
        assert torch.autograd.gradcheck(lambda x, c=columns: OPS.moments(x)[c], x)
    assert torch.autograd.gradcheck(lambda x: OPS.moments(x.t())[4:6], x)


def test_moments_give_the_gradient_of_std():
    x = torch.randn(50, requires_grad=True)
    (ours,) = torch.autograd.grad((ops.moments(x)[5] / 49).sqrt(), x)
    (theirs,) = torch.autograd.grad(x.std(), x)
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_moments_of_some_values_that_are_not_finite():
    x = torch.tensor([1.0, torch.nan, 3.0, torch.inf, 8.0], requires_grad=True)
    (grad,) = torch.autograd.grad(ops.moments(x)[4], x)
    assert grad.tolist() == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3])
    (grad,) = torch.autograd.grad(ops.moments(x)[7], x)
    assert grad.tolist() == [0, 0, 0, 0, 1]
    for nothing in (torch.tensor([torch.nan, torch.inf]), torch.empty(0)):
        nothing.requires_grad_()
        (grad,) = torch.autograd.grad(ops.moments(nothing).nan_to_num(0, 0, 0).sum(), nothing)
        assert not grad.any()


def test_an_extreme_that_several_attain_shares_its_gradient_as_in_torch():
    x = torch.tensor([2.0, -1.0, 2.0, -1.0, -1.0], requires_grad=True)
    for column, extreme in ((6, torch.amin), (7, torch.amax)):
        (ours,) = torch.autograd.grad(ops.moments(x)[column], x)
        (theirs,) = torch.autograd.grad(extreme(x), x)
        assert torch.equal(ours, theirs)


def test_moments_and_live_of_the_others_carry_no_gradient():
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    for outputs in (ops.act(x, "tanh"), ops.linear_act(x, weight, act="tanh")):
        assert [t.requires_grad for t in outputs] == [True, False, False]


def test_act_backward_takes_the_moments_of_both_gradients():
    z, upstream = torch.randn(6, 7), torch.randn(6, 7)
    grad_z, moments = OPS.act_backward(upstream, z, "tanh", 0.0, 0.0)
    assert moments[1, 4].item() == pytest.approx(upstream.double().mean().item())
    assert moments[0, 4].item() == pytest.approx(grad_z.double().mean().item())


def test_without_the_pre_activation_the_gradient_says_what_it_needs():
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    y = OPS.linear_act(x, weight, None, "tanh", 0.0, 0.0, False)[0]
    with pytest.raises(RuntimeError, match=r"linear_act: the gradient needs .*save_z=True"):
        y.sum().backward()
    y = OPS.linear_act(x, weight, None, "identity", 0.0, 0.0, False)[0]
    y.sum().backward()
    assert torch.allclose(x.grad, weight.sum(0).expand(3, 4), atol=1e-6)


def test_second_derivatives_are_refused_and_not_wrong():
    z = torch.randn(3, requires_grad=True)
    (grad,) = torch.autograd.grad(ops.act(z, "tanh")[0].sum(), z, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"second derivatives .* not supported"):
        grad.sum().backward()
