"""linear_act_chain_backward: autograd's gradients and their moments, at every size and dtype."""

import pytest
import torch
from cases.operators import ACTIVATION_IDS, ACTIVATIONS, DTYPES, assert_row, layers, plain

from initfast.ops import reference
from initfast.ops.schemas import LIBRARY

OPERATOR = torch.ops.initfast.linear_act_chain_backward
NATIVE = LIBRARY.backend == "native"
WIDTHS = [33, 64, 1, 65, 130, 7]


def chain(widths, leading, dtype=torch.float32, acts=None):
    """What a forward through layers between these widths leaves for its backward.

    It keeps pre-activations; :func:`with_results` makes it keep results.
    """
    weights, biases, *calls = layers(widths, dtype)
    if acts is not None:
        calls = [list(column) for column in zip(*acts, strict=True)]
    inputs, zs = [torch.randn(*leading, widths[0]).to(dtype)], []
    for layer in zip(weights, biases, *calls, strict=True):
        y, z, _, _ = torch.ops.initfast.linear_act(inputs[-1], *layer, True)
        inputs.append(y)
        zs.append(z)
    grad_y = torch.randn(inputs.pop().shape).to(dtype)
    return grad_y, inputs, weights, zs, *calls, [False] * len(weights)


def with_results(arguments, which):
    """The same where the slopes of these layers are taken at their results."""
    grad_y, inputs, weights, zs, *calls, _ = arguments
    at = [
        torch.ops.initfast.act(z, *call, -1)[0] if at_result else z
        for z, at_result, *call in zip(zs, which, *calls, strict=True)
    ]
    return grad_y, inputs, weights, at, *calls, which


def everything(widths):
    n = len(widths) - 1
    return True, [2] * n, [True] * n


def truth(arguments):
    """By float64's autograd, layer by layer from what the forward left: one rounding at a time."""
    grad_y, inputs, weights, zs, *calls, _ = arguments
    grad, found = grad_y.double(), []
    for i in reversed(range(len(weights))):
        z = zs[i].double().requires_grad_()
        act, alpha, beta = (column[i] for column in calls)
        (grad_z,) = torch.autograd.grad(plain(act, z, alpha, beta), z, grad)
        rows = grad_z.reshape(-1, weights[i].shape[0]) if grad_z.numel() else grad_z.flatten(0, -2)
        x = inputs[i].double().reshape(rows.shape[0], weights[i].shape[1])
        found.append((grad, rows.t() @ x, rows.sum(0), rows.abs().sum(0)))
        grad = (rows @ weights[i].double()).reshape(inputs[i].shape)
    return grad, found[::-1]


def check(arguments, wanted):
    wants_x, weights_wanted, biases_wanted = wanted
    grad_x, grad_weights, grad_biases, rows = OPERATOR(*arguments, *wanted)
    expected_x, expected = truth(arguments)
    dtype, weights = arguments[0].dtype, arguments[2]
    rtol = {torch.float32: 1e-4, torch.float64: 1e-11, torch.float16: 0.02}.get(dtype, 0.1)

    def close(got, exact, terms=None):
        """terms: of what was summed, the sum of the magnitudes; None: much like the sum's."""
        assert got.dtype == dtype and got.shape == exact.shape and got.is_contiguous()
        error = (got.double() - exact).norm()
        assert error <= rtol * (exact if terms is None else terms).norm() + rtol * 1e-3

    close(grad_x, expected_x) if wants_x else close(grad_x, torch.empty(0))
    assert rows.shape == (len(weights), 2, 12)
    for i, (grad_y, weight, bias, terms) in enumerate(expected):
        close(grad_weights[i], weight if weights_wanted[i] == 2 else torch.empty(0))
        close(grad_biases[i], *((bias, terms) if biases_wanted[i] else (torch.empty(0),)))
        if weights_wanted[i] == 2:
            assert_row(rows[i, 1], grad_weights[i])
        if i + 1 == len(expected):
            assert_row(rows[i, 0], arguments[0])
        assert rows[i, 0, 0] == grad_y.numel()
        assert rows[i, 1, 0] == (weight.numel() if weights_wanted[i] else 0)
        if grad_y.numel() > 1 and not rows[i, 0, 1]:
            measured = (rows[i, 0, 5] / (grad_y.numel() - 1)).sqrt()
            assert measured.item() == pytest.approx(grad_y.std().item(), rel=20 * rtol, abs=rtol)
    return grad_x, grad_weights, grad_biases, rows


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("leading", [(), (1,), (3, 5), (16,), (63,), (64,), (65,), (0,)], ids=str)
def test_every_batch(leading, dtype):
    acts = [("tanh", 0.0, 0.0), ("identity", 0.0, 0.0), ("sigmoid", 0.0, 0.0)] * 2
    arguments = chain(WIDTHS, leading, dtype, acts[:5])
    at_z = check(arguments, everything(WIDTHS))
    kept = with_results(arguments, [True, False, True, False, False])
    at_y = OPERATOR(*kept, *everything(WIDTHS))
    if NATIVE and dtype in (torch.float32, torch.float64):
        assert all(map(torch.equal, (at_z[0], *at_z[1], *at_z[2]), (at_y[0], *at_y[1], *at_y[2])))
        assert torch.equal(at_z[3], at_y[3])


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS, ids=ACTIVATION_IDS)
def test_every_activation(name, alpha, beta):
    check(chain([9, 70, 18], (5,), acts=[(name, alpha, beta)] * 2), everything([9, 70, 18]))


def test_what_is_not_wanted_is_empty_and_the_rest_the_same():
    arguments = chain(WIDTHS, (6,))
    full = OPERATOR(*arguments, *everything(WIDTHS))
    wanted = (False, [2, 1, 0, 1, 2], [True, False, False, True, False])
    part = check(arguments, wanted)
    for i, (what, bias) in enumerate(zip(*wanted[1:], strict=True)):
        assert torch.equal(part[3][i, 0], full[3][i, 0])
        assert not what or torch.equal(part[3][i, 1], full[3][i, 1])
        assert what != 2 or torch.equal(part[1][i], full[1][i])
        assert not bias or torch.equal(part[2][i], full[2][i])


def test_layouts_of_every_operand():
    grad_y, inputs, weights, zs, *calls = chain([12, 20, 6], (2, 9))
    inputs[0] = torch.randn(9, 12, 2).permute(2, 0, 1)
    grad_y = torch.randn(6, 9, 2).permute(2, 1, 0)
    for weight in (torch.randn(12, 20).t(), torch.randn(20, 15)[:, 2:14], torch.randn(20, 1)):
        weights[0] = weight.expand(20, 12)
        check((grad_y, inputs, weights, zs, *calls), everything([12, 20, 6]))
    check((grad_y[:1, :1].expand(2, 9, 6), inputs, weights, zs, *calls), everything([0] * 3))


@pytest.mark.parametrize("widths", [[5, 0, 4], [0, 3, 4], [4, 3, 0], [1, 1]], ids=str)
def test_layers_without_units(widths):
    arguments = chain(widths, (3,))
    check(arguments, everything(widths))


@pytest.mark.parametrize("scale", [1e-36, 1e-18, 1e18, 1e30])
def test_moments_at_extreme_scales(scale):
    arguments = chain([70, 90], (11,), acts=[("identity", 0.0, 0.0)])
    arguments = (arguments[0] * scale, *arguments[1:])
    _, (grad_weight,), _, rows = OPERATOR(*arguments, *everything([0, 0]))
    assert_row(rows[0, 0], arguments[0])
    assert_row(rows[0, 1], grad_weight)


def test_values_that_are_not_finite_are_counted():
    arguments = chain([70, 90], (11,), acts=[("identity", 0.0, 0.0)])
    arguments[0][3, 7] = torch.nan
    grad_x, (grad_weight,), (grad_bias,), rows = OPERATOR(*arguments, *everything([0, 0]))
    assert rows[0, :, 1].tolist() == [1, 70]
    assert grad_x.isnan().any(1).nonzero().tolist() == [[3]]
    assert grad_weight.isnan().any(1).nonzero().tolist() == [[7]]
    assert grad_bias.isnan().nonzero().tolist() == [[7]]


@pytest.mark.skipif(not NATIVE, reason="plain PyTorch's own sums depend on its threads")
def test_small_batches_give_the_same_bits_on_any_number_of_threads():
    arguments = chain([300, 256, 700, 130], (16,))
    seen = set()
    for threads in (1, 2, 4, 16):
        torch.set_num_threads(threads)
        grad_x, weights, biases, rows = OPERATOR(*arguments, *everything([0] * 4))
        results = [grad_x, *weights, *biases, rows]
        seen.add(b"".join(t.numpy().tobytes() for t in results))
    assert len(seen) == 1


def test_the_reference_does_the_same():
    arguments = chain(WIDTHS, (6,))
    wanted = (True, [2, 1, 0, 1, 2], [True, False, False, True, False])
    plain_torch = reference.linear_act_chain_backward(*arguments, *wanted)
    for got, expected in zip(plain_torch, OPERATOR(*arguments, *wanted), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_opcheck():
    arguments = chain([8, 9, 5], (3,))
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(
        OPERATOR.default, (*arguments, True, [2, 1], [True, False]), test_utils=tests
    )


def test_refuses():
    grad_y, inputs, weights, zs, *calls = chain([8, 9, 5], (3,))
    wanted = everything([0] * 3)
    with pytest.raises(RuntimeError, match="1 inputs, 2 weights, 2 pre-activations"):
        OPERATOR(grad_y, inputs[:1], weights, zs, *calls, *wanted)
    with pytest.raises(RuntimeError, match=r"layer 1 has a pre-activation of shape \[3, 5\]"):
        OPERATOR(grad_y[:2], inputs, weights, zs, *calls, *wanted)
    with pytest.raises(RuntimeError, match="last dimension to be 8"):
        OPERATOR(grad_y, [inputs[0][:, 1:], inputs[1]], weights, zs, *calls, *wanted)
    with pytest.raises(RuntimeError, match="of a weight's gradient 3 is wanted"):
        OPERATOR(grad_y, inputs, weights, zs, *calls, True, [2, 3], [True, True])
    with pytest.raises(RuntimeError, match="unknown activation 'swish'"):
        OPERATOR(grad_y, inputs, weights, zs, ["tanh", "swish"], *calls[1:], *wanted)
    gelu = ["tanh", "gelu"], *calls[1:3], [False, True]
    with pytest.raises(RuntimeError, match="the slope of gelu is wanted at its result"):
        OPERATOR(grad_y, inputs, weights, zs, *gelu, *wanted)
    with pytest.raises(NotImplementedError, match="has no gradient of its own"):
        OPERATOR(grad_y.requires_grad_(), inputs, weights, zs, *calls, *wanted)[0].sum().backward()
