"""The operators on a card, against float64 on the CPU; the sampler's bits against the CPU's.

Run with `python -m pytest tests -m cuda` where there is a card.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import warnings

import pytest
import torch

import initfast
from initfast import activations, ops, reference

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Unit roundoff of the dtype, or float32's arithmetic, whichever is coarser.
TOLERANCE = {
    torch.float32: 4e-6,
    torch.float64: 1e-12,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-11,
}


@pytest.fixture(autouse=True)
def no_synchronisation():
    """Every operator call of these tests runs where waiting for the device is an error."""
    torch.cuda.set_sync_debug_mode("default")
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()


def quietly(function, *arguments):
    """Call an operator; a synchronisation inside it raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        return function(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def numbers(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
    x = torch.randn(*shape, dtype=torch.float64) * scale
    return x.masked_fill_(torch.rand(*shape) < 0.05, 0).to(dtype)


def check_row(row: torch.Tensor, x: torch.Tensor) -> None:
    """One row of moments against float64 arithmetic on the numbers of x."""
    got = row.cpu().tolist()
    expected = reference.moments(x.detach().cpu().double()).tolist()
    assert got[:3] == expected[:3]
    if got[0] == got[1]:
        assert got[4:] == expected[4:]
        return
    rms = math.sqrt(expected[4] ** 2 + expected[5] / (expected[0] - expected[1]))
    assert abs(got[4] - expected[4]) <= 1e-6 * rms
    assert got[5] == pytest.approx(expected[5], rel=2e-6)
    assert got[6:] == expected[6:]


def check_values(got: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> None:
    error = (got.cpu().double() - exact).abs() / exact.abs().clamp(min=1)
    assert error.max() <= TOLERANCE[dtype]


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_act_over_layouts(dtype):
    x = numbers(6, 12, 9, 7, dtype=dtype).cuda()
    last = x.contiguous(memory_format=torch.channels_last)
    for z in (x, last, x.transpose(2, 3), x[:, :, 1:8:2]):
        y, rows, live = ops.act(z, "relu", unit_dim=1)
        assert torch.equal(y, z.relu())
        assert y.stride() == torch.empty_like(z).stride()
        check_row(rows[0], z)
        assert torch.equal(live, (y != 0).movedim(1, 0).flatten(1).any(1))


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
    exact = x.double() @ weight.double().t() + (offset.double() if bias else 0)
    if rows > 0:
        check_values(z, exact, dtype)
        check_values(y, z.cpu().double().tanh(), dtype)
    check_row(moments[0], z)
    check_row(moments[1], y)
    check_row(moments[2], weight)
    assert torch.equal(live, (y != 0).any(0))


def test_gradients_flow():
    x = torch.randn(8, 16, device="cuda", dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 16, device="cuda", dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: ops.linear_act(x, w, act="tanh")[0], (x, weight))


MANY = (1 << 31) + 4099


def need_memory(gigabytes: float) -> None:
    free = torch.cuda.mem_get_info()[0] / 1e9
    if free < gigabytes:
        pytest.skip(f"{free:.0f} GB of the card's memory are free, {gigabytes} needed")


def test_moments_and_act_past_2_to_31_elements():
    need_memory(14)
    x = torch.ones(MANY, dtype=torch.bfloat16, device="cuda")
    x[-1] = 3
    row = ops.moments(x).tolist()
    assert (row[0], row[6], row[7]) == (MANY, 1, 3)
    y, rows, _ = ops.act(x, "relu")
    assert rows[1].tolist()[7] == 3 and y[-1] == 3
    moments, live = ops.act_(x.view(1, -1), "relu", unit_dim=1)
    assert moments[1].tolist()[7] == 3 and x[-1] == 3 and live.all()


def test_act_backward_past_2_to_31_elements():
    need_memory(14)
    z = torch.ones(MANY, dtype=torch.bfloat16, device="cuda")
    grad_y = torch.ones_like(z)
    z[-2], grad_y[-1] = -1, 3
    grad_z, rows = torch.ops.initfast.act_backward(grad_y, z, "relu", 0.0, 0.0)
    assert grad_z[-3:].tolist() == [1, 0, 3]
    assert [row[0] for row in rows.tolist()] == [MANY, MANY] and rows[0, 7] == 3


def test_linear_act_of_a_weight_past_2_to_31_elements():
    need_memory(6)
    rows, cols, depth = 4, (1 << 19) + 1, 4100
    weight = torch.zeros(cols, depth, dtype=torch.bfloat16, device="cuda")
    weight[-1, -1] = 2
    x = torch.ones(rows, depth, dtype=torch.bfloat16, device="cuda")
    y, moments, live = ops.linear_act(x, weight)
    assert y[:, -1].tolist() == [2] * rows and y[:, :-1].count_nonzero() == 0
    assert moments[2, 0] == weight.numel() > 1 << 31 and moments[2, 7] == 2
    assert live.nonzero().tolist() == [[cols - 1]]


def test_linear_act_of_an_output_past_2_to_31_elements():
    need_memory(10)
    rows, cols, depth = (1 << 20) + 1, 2048, 8
    x = torch.zeros(rows, depth, dtype=torch.bfloat16, device="cuda")
    x[-1] = 1
    weight = torch.ones(cols, depth, dtype=torch.bfloat16, device="cuda")
    y, moments, live = ops.linear_act(x, weight, act="relu")
    assert (y[-1] == depth).all() and y[-2].count_nonzero() == 0 and live.all()
    assert moments[1, 0] == rows * cols and moments[1, 2] == (rows - 1) * cols


@pytest.mark.parametrize("shape", ["row", "rows"])
def test_samples_past_2_to_31_elements_are_the_bits_of_the_cpu(shape):
    need_memory(6)
    sizes = {"row": (MANY,), "rows": (MANY // 3 + 1, 3)}[shape]
    out = torch.empty(sizes, dtype=torch.bfloat16, device="cuda")
    arguments = ("uniform", None, 2.0**-32, 0.5, 0.0, 1.0, 7)
    ops.sample_(out, *arguments, 0, out.stride())
    for start in (0, (1 << 31) - 600, out.numel() - 1200):
        part = torch.empty(1200, dtype=torch.bfloat16)
        ops.sample_(part, *arguments, start, (1,))
        assert torch.equal(out.view(-1)[start : start + 1200].cpu(), part)


def test_zero_rows_past_2_to_31_elements():
    need_memory(8)
    rows, cols = 1 << 10, (1 << 21) + 5
    out = torch.ones(rows, cols, dtype=torch.bfloat16, device="cuda")
    ops.zero_rows_(out, 3, 7)
    assert ((out[:, -300:] == 0).sum(0) == 3).all()


# ---- the sampler ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_", "sparse_"])
def test_samplers_draw_the_bits_of_the_cpu(name, dtype):
    arguments = {"sparse_": (0.3,)}.get(name, ())
    for shape in [(1, 1), (257, 129), (1024, 1024)]:
        for transposed in (False, True):
            drawn = []
            for device in ("cpu", "cuda"):
                out = torch.empty(shape, dtype=dtype, device=device)
                out = out.t().contiguous().t() if transposed else out
                torch.manual_seed(3)
                drawn.append(getattr(initfast.init, name)(out, *arguments))
            assert torch.equal(drawn[0], drawn[1].cpu())


# ---- streams and graphs ----


def test_operators_can_be_captured_in_a_graph():
    x, weight = torch.randn(16, 256, device="cuda"), torch.randn(256, 256, device="cuda") / 16
    run = lambda: (ops.linear_act(x, weight, act="tanh"), ops.act(x, "relu"), ops.moments(x))  # noqa: E731
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    for _ in range(3):
        x.copy_(torch.randn(16, 256))
        graph.replay()
        expected = run()
        torch.cuda.synchronize()
        for got, exact in zip((*captured[0], *captured[1], captured[2]),
                              (*expected[0], *expected[1], expected[2]), strict=True):  # fmt: skip
            assert torch.equal(got, exact)


def test_two_streams_do_not_disturb_each_other():
    xs = [torch.randn(1 << 20, device="cuda") * (i + 1) for i in range(2)]
    expected = [ops.moments(x) for x in xs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in xs]
    results = [[], []]
    for _ in range(100):
        for x, stream, found in zip(xs, streams, results, strict=True):
            with torch.cuda.stream(stream):
                found.append(ops.moments(x))
    torch.cuda.synchronize()
    for row, found in zip(expected, results, strict=True):
        assert all(torch.equal(row, each) for each in found)


# ---- profile ----


def test_profile_of_a_net_on_the_card():
    torch.manual_seed(0)
    layers = [layer for _ in range(8) for layer in (torch.nn.Linear(128, 128), torch.nn.Tanh())]
    net, x = torch.nn.Sequential(*layers).double(), torch.randn(16, 128, dtype=torch.float64)
    on_cpu = initfast.profile(net, x)
    on_card = initfast.profile(net.cuda(), x.cuda())
    assert len(on_cpu.layers) == len(on_card.layers)
    for a, b in zip(on_cpu.layers, on_card.layers, strict=True):
        assert (a.name, a.op, a.dead_units) == (b.name, b.op, b.dead_units)
        assert a.post.std == pytest.approx(b.post.std, rel=1e-9)


@pytest.mark.parametrize("bad", [0, 3, 30, 40])
def test_a_stop_at_the_first_nonfinite_value_waits_only_for_the_report(bad):
    net = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(40)])
    if bad < 40:
        net[bad].weight.data.fill_(torch.inf)
    x = torch.randn(16, 64)
    on_cpu = initfast.profile(net, x, stop_at_nonfinite=True)
    net, x = net.cuda(), x.cuda()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        on_card = initfast.profile(net, x, stop_at_nonfinite=True)
    assert len([w for w in seen if "synchronizing" in str(w.message)]) == 1  # the one copy
    assert [layer.name for layer in on_card.layers] == [layer.name for layer in on_cpu.layers]
    assert (on_card.first_nonfinite is None) == (bad == 40)


# ---- bad input ----


def test_tensors_on_different_devices_are_refused():
    x, weight = torch.randn(3, 4, device="cuda"), torch.randn(5, 4)
    for arguments in [(x, weight), (weight, x[:, :4])]:
        with pytest.raises(RuntimeError, match=r"devices|CUDA device"):
            ops.linear_act(*arguments)


def test_an_unsupported_dtype_is_refused():
    with pytest.raises(RuntimeError, match="unsupported dtype"):
        ops.moments(torch.arange(3, device="cuda"))


# ---- the card's own sanitizer ----

SANITIZED = """
import torch, initfast
from initfast import ops
for dtype in (torch.float32, torch.bfloat16):
    for n in (1, 33, 4099):
        x = torch.randn(n, 70, device="cuda").to(dtype)
        ops.moments(x[:, 1:]), ops.act(x, "relu"), ops.act(x[:, 3:9], "tanh")
        ops.linear_act(x[:60], torch.randn(50, 70, device="cuda").to(dtype), act="gelu")
        initfast.init.normal_(x), initfast.init.sparse_(x, 0.5)
torch.cuda.synchronize()
"""


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck"])
def test_compute_sanitizer_finds_nothing(tool):
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--kernel-regex", "kns=initfast"]
    result = subprocess.run(
        [*command, sys.executable, "-c", SANITIZED], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
