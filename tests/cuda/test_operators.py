"""The operators on a card, against float64 on the CPU; the sampler's bits against the CPU's.

Run with `python -m pytest tests -m cuda` where there is a card.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from cases.cuda import (
    DTYPES,
    MARKS,
    TOLERANCE,
    check_product,
    check_row,
    check_values,
    numbers,
    one_rounding,  # noqa: F401
    quietly,
)

import initfast
from initfast import ops
from initfast.ops import activations, reference

pytestmark = MARKS


# ---- operators ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 31, 513, 4097, 1 << 20, (1 << 24) + 3])
def test_moments(n, dtype):
    x = numbers(n, dtype=dtype).cuda()
    row = quietly(ops.moments, x)
    check_row(row, x)
    assert torch.equal(row, ops.moments(x))
    if n > 2:
        check_row(ops.moments(x[1:]), x[1:])
        check_row(ops.moments(x[::2]), x[::2])


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e17, 1e37])
def test_moments_at_every_scale(scale):
    x = numbers(100_003, scale=scale / 6).cuda()
    check_row(ops.moments(x), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", list(activations.ACTIVATIONS))
def test_act_and_its_backward(act, dtype):
    activation = activations.ACTIVATIONS[act]
    z, grad_y = numbers(300, 257, dtype=dtype, scale=3), numbers(300, 257, dtype=dtype)
    y, rows, live = quietly(ops.act, z.cuda(), act)
    check_values(y, activation.value(z.double(), *activation.defaults), dtype)
    check_row(rows[0], z)
    check_row(rows[1], y)
    assert torch.equal(live.cpu(), (y.cpu() != 0).any(0))
    grad_z, rows = quietly(
        torch.ops.initfast.act_backward, grad_y.cuda(), z.cuda(), act, *activation.defaults
    )
    slope = activation.slope(z.double(), *activation.defaults)
    check_values(grad_z, grad_y.double() * slope, dtype)
    check_row(rows[0], grad_z)
    check_row(rows[1], grad_y)


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "strided": lambda x: x[:, :, 1:8:2],
    "unaligned": lambda x: x.flatten()[1:4501].view(6, 10, 25, 3),
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_act_over_layouts(dtype):
    x = numbers(6, 12, 9, 7, dtype=dtype).cuda()
    for lay_out in LAYOUTS.values():
        z = lay_out(x)
        y, rows, live = quietly(ops.act, z, "relu", None, None, 1)
        assert torch.equal(y, z.relu())
        assert y.stride() == torch.empty_like(z).stride()
        check_row(rows[0], z)
        assert torch.equal(live, (y != 0).movedim(1, 0).flatten(1).any(1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_act_in_place(layout, dtype):
    x = numbers(6, 12, 9, 7, dtype=dtype).cuda()
    z = LAYOUTS[layout](x.clone())
    before = z.clone()
    y, _, live = ops.act(before, "gelu", unit_dim=1)
    moments, live_too = quietly(ops.act_, z, "gelu", None, None, 1)
    assert torch.equal(z, y) and torch.equal(live, live_too)
    check_row(moments[0], before)
    check_row(moments[1], z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "rows, cols, depth",
    [
        (0, 5, 4),
        (1, 1, 1),
        (16, 256, 256),
        (17, 33, 130),
        (64, 4096, 1024),
        (65, 99, 70),
        (512, 768, 300),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_act(rows, cols, depth, dtype, bias):
    x = numbers(rows, depth, dtype=dtype)
    weight = numbers(cols, depth, dtype=dtype, scale=depth**-0.5)
    offset = numbers(cols, dtype=dtype) if bias else None
    inputs = (x.cuda(), weight.cuda(), offset.cuda() if bias else None)
    y, z, moments, live = quietly(torch.ops.initfast.linear_act, *inputs, "tanh", 0.0, 0.0, True)
    check_product(z, x, weight.t(), offset.double() if bias else 0.0)
    check_values(y, z.cpu().double().tanh(), dtype)
    check_row(moments[0], z)
    check_row(moments[1], y)
    check_row(moments[2], weight)
    assert torch.equal(live, (y != 0).any(0))


CHAINS = {"small": (16, (70, 256, 33, 64)), "large": (130, (70, 256, 33, 64)), "none": (0, (4, 5))}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chain", CHAINS)
def test_linear_act_chain(chain, dtype):
    rows, widths = CHAINS[chain]
    shapes = list(itertools.pairwise(widths))
    weights = [numbers(m, n, dtype=dtype, scale=n**-0.5).cuda() for n, m in shapes]
    biases = [numbers(m, dtype=dtype).cuda() if i % 2 else None for i, (_, m) in enumerate(shapes)]
    acts = [["tanh"] * len(shapes), [0.0] * len(shapes), [0.0] * len(shapes)]
    x = numbers(rows, widths[0], dtype=dtype).cuda()
    results = quietly(torch.ops.initfast.linear_act_chain, x, weights, biases, *acts)
    y, moments, live, of_units = results
    units = 0
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x, one, flags = ops.linear_act(x, weight, bias, "tanh")
        assert torch.equal(moments[i], one)
        assert torch.equal(live[units : units + len(flags)], flags)
        found = of_units[4 * units : 4 * (units + len(flags))].view(4, -1)
        assert torch.equal(found, ops.unit_moments(x)[1])
        units += len(flags)
    assert torch.equal(y, x) and len(live) == units


@pytest.mark.parametrize("at_result", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_act_chain_backward(dtype, at_result):
    grad_y, *layers = [numbers(9, n, dtype=dtype) for n in (33, 70, 64, 64, 33)]
    inputs, zs = layers[:2], layers[2:]
    weights = [numbers(64, 70, dtype=dtype), numbers(33, 64, dtype=dtype)]
    calls = (["tanh", "relu"], [0.0, 0.0], [0.0, 0.0], [at_result] * 2)
    wanted = (True, [2, 1], [True, False])
    on_card = ([t.cuda() for t in tensors] for tensors in (inputs, weights, zs))
    operator = torch.ops.initfast.linear_act_chain_backward
    found = quietly(operator, grad_y.cuda(), *on_card, *calls, *wanted)
    doubles = ([t.double() for t in tensors] for tensors in (inputs, weights, zs))
    exact = reference.linear_act_chain_backward(grad_y.double(), *doubles, *calls, *wanted)
    scale = 8 * TOLERANCE[dtype]
    for got, true in zip((found[0], *found[1], *found[2]), (exact[0], *exact[1], *exact[2]),
                         strict=True):  # fmt: skip
        assert (got.cpu().double() - true).norm() <= scale * true.norm()
    check_row(found[3][1, 0], grad_y)
    check_row(found[3][0, 1], found[1][0])
    assert torch.allclose(found[3][:, :, 5].cpu(), exact[3][:, :, 5], rtol=2 * scale)


def test_gradients_flow():
    x = torch.randn(8, 16, device="cuda", dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 16, device="cuda", dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: ops.linear_act(x, w, act="tanh")[0], (x, weight))


# ---- the sampler ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_", "sparse_"])
@pytest.mark.parametrize("rows, cols", [(1, 1), (257, 129), (1024, 1024)])
def test_samplers_draw_the_bits_of_the_cpu(rows, cols, name, dtype):
    arguments = {"sparse_": (0.3,)}.get(name, ())
    for transposed in (False, True):
        drawn = []
        for device in ("cpu", "cuda"):
            out = torch.empty(rows, cols, dtype=dtype, device=device)
            out = out.t().contiguous().t() if transposed else out
            torch.manual_seed(3)
            drawn.append(getattr(initfast.init, name)(out, *arguments))
        assert torch.equal(drawn[0], drawn[1].cpu())


# ---- streams, graphs, devices ----


def every_operator(x, small, large, out):
    """One call of each way through the operators; all results."""
    calls = (["tanh"] * 2, [0.0] * 2, [0.0] * 2)
    y, z, *measured = torch.ops.initfast.linear_act(x, small, None, "tanh", 0.0, 0.0, True)
    results = [y, z, *measured]
    for each in (x, x.repeat(9, 1)):
        results += ops.linear_act(each, small, act="relu")
        results += torch.ops.initfast.linear_act_chain(each, [small, large], [None] * 2, *calls)
    operator = torch.ops.initfast.linear_act_chain_backward
    grad_x, weights, biases, rows = operator(y, [x], [small], [y], ["tanh"], [0.0], [0.0],
                                             [True], True, [2], [True])  # fmt: skip
    results += [grad_x, *weights, *biases, rows]
    results += [*ops.act(x, "relu"), *torch.ops.initfast.act_backward(y, z, "tanh", 0.0, 0.0)]
    results += [*ops.act_(y.clone(), "gelu"), ops.moments(x), ops.moments(x[:, 1::2])]
    initfast.init.normal_(out, key=1)
    initfast.init.sparse_(out, 0.3, key=2)
    return [*results, out.clone()]


def operands(seed: int = 0):
    """Of every_operator."""
    torch.manual_seed(seed)
    sizes = ((16, 256), (256, 256), (3000, 256), (64, 33))
    return [torch.randn(size).cuda() / 8 for size in sizes]


def test_no_operator_waits_for_the_card():
    quietly(every_operator, *operands())


def test_operators_can_be_captured_in_a_graph():
    inputs = operands()
    every_operator(*inputs)  # loads the kernels
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = every_operator(*inputs)
    for seed in range(3):
        inputs[0].copy_(operands(seed)[0])
        graph.replay()
        expected = every_operator(*inputs)
        torch.cuda.synchronize()
        for got, exact in zip(captured, expected, strict=True):
            assert torch.equal(got, exact)


def test_two_streams_do_not_disturb_each_other():
    inputs = [operands(seed) for seed in range(2)]
    expected = [every_operator(*each) for each in inputs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in inputs]
    results = [[], []]
    for _ in range(20):
        for each, stream, found in zip(inputs, streams, results, strict=True):
            with torch.cuda.stream(stream):
                found.append(every_operator(*each))
    torch.cuda.synchronize()
    for exact, found in zip(expected, results, strict=True):
        for each in found:
            assert all(torch.equal(a, b) for a, b in zip(each, exact, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one card only")
def test_operators_run_where_their_operands_are():
    on_first = every_operator(*operands())
    elsewhere = [t.to("cuda:1") for t in operands()]
    for first, second in zip(on_first, every_operator(*elsewhere), strict=True):
        assert second.device == torch.device("cuda:1")
        torch.testing.assert_close(first.cpu(), second.cpu())
    assert torch.cuda.current_device() == 0


# ---- bad input ----


def test_tensors_on_different_devices_are_refused():
    x, weight = torch.randn(3, 4, device="cuda"), torch.randn(5, 4)
    for arguments in [(x, weight), (weight, x[:, :4])]:
        with pytest.raises(RuntimeError, match=r"devices|CUDA device"):
            ops.linear_act(*arguments)


def test_an_unsupported_dtype_is_refused():
    with pytest.raises(RuntimeError, match="unsupported dtype"):
        ops.moments(torch.arange(3, device="cuda"))
