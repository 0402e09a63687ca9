"""Every operator under torch.compile(fullgraph=True): values, statistics and gradients."""

import shutil

import pytest
import torch

from initfast import ops

BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(
                not (shutil.which("g++") or shutil.which("clang++")),
                reason="inductor compiles C++, and there is no compiler",
            ),
        ],
    ),
]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def net(x, weight, bias, image):
    h, hidden, live = ops.linear_act(x * 2, weight, bias, act="gelu")
    h, after, _ = ops.act(h + 1, "elu", alpha=0.5)
    c, channels, dead = ops.act(image, "relu", unit_dim=1)
    spread = ops.moments(h)[5]
    loss = h.square().mean() + c.sum() + spread
    return loss, hidden, after, channels, live, dead


def arguments():
    torch.manual_seed(0)
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    return [
        t.requires_grad_() for t in (torch.randn(6, 7), torch.randn(9, 7), torch.randn(9), image)
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_of_every_operator_and_its_gradients(backend):
    eager, compiled = arguments(), arguments()
    expected = net(*eager)
    results = torch.compile(net, fullgraph=True, backend=backend)(*compiled)
    for a, b in zip(results, expected, strict=True):
        assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
    expected[0].backward()
    results[0].backward()
    for a, b in zip(compiled, eager, strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_dtypes_without_gradients(dtype):
    def run(x, w):
        return ops.linear_act(x, w, act="tanh")[:2]

    x, w = torch.randn(3, 4).to(dtype), torch.randn(5, 4).to(dtype)
    with torch.no_grad():
        y, moments = torch.compile(run, fullgraph=True, backend="aot_eager")(x, w)
        assert torch.equal(y, run(x, w)[0]) and torch.equal(moments, run(x, w)[1])


def test_batches_of_any_size_compile_once():
    compiled = []

    def counting(graph, inputs):
        compiled.append(graph)
        return graph.forward

    def run(x, w):
        y, moments, _ = ops.linear_act(x, w, act="relu")
        return y, moments, ops.moments(y)

    run_compiled = torch.compile(run, fullgraph=True, backend=counting, dynamic=True)
    w = torch.randn(5, 4)
    for rows in (3, 8, 65):
        x = torch.randn(rows, 4)
        for a, b in zip(run_compiled(x, w), run(x, w), strict=True):
            assert torch.equal(a, b)
    assert len(compiled) == 1


def test_bad_input_is_an_error_when_it_is_compiled():
    run = torch.compile(lambda x, w: ops.linear_act(x, w)[0], fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match=r"x has shape \[3, 4\] but weight has shape \[5, 6\]"):
        run(torch.randn(3, 4), torch.randn(5, 6))
