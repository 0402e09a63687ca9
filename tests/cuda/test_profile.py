"""Profiles of nets on a card, and the kernels under the card's own sanitizer."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from cases.cuda import MARKS, one_rounding, waits  # noqa: F401
from torch import nn

import initfast

pytestmark = MARKS


class Loop(nn.Module):
    """A net with a forward of its own."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x):
        for layer in self.layers[::2]:
            x = torch.tanh(layer(x))
        return x


def deep(depth: int, width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), nn.Tanh())])


def loss(y: torch.Tensor) -> torch.Tensor:
    return y.float().square().mean()


def same(on_card: initfast.Report, on_cpu: initfast.Report, rel: float) -> bool:
    assert len(on_cpu.layers) == len(on_card.layers)
    for a, b in zip(on_cpu.layers, on_card.layers, strict=True):
        assert (a.name, a.op, a.dead_units) == (b.name, b.op, b.dead_units)
        for field in ("pre", "post", "grad", "weight_grad"):
            ours, truth = getattr(b, field), getattr(a, field)
            assert (ours is None) == (truth is None)
            assert truth is None or ours.std == pytest.approx(truth.std, rel=rel)
        assert b.weight.std == pytest.approx(a.weight.std, rel=rel)
    return True


@pytest.mark.parametrize("batch", [16, 100])
@pytest.mark.parametrize("in_a_loop", [False, True])
@pytest.mark.parametrize("with_loss", [False, True])
@pytest.mark.parametrize(
    "dtype, rel",
    [(torch.float64, 1e-9), (torch.float32, 1e-4), (torch.bfloat16, 0.1), (torch.float16, 0.02)],
)
def test_a_profile_is_the_cpus_and_waits_once(dtype, rel, with_loss, in_a_loop, batch):
    layers, x = deep(6).to(dtype), torch.randn(batch, 64).to(dtype)
    net = Loop(layers) if in_a_loop else layers
    options = {"loss": loss} if with_loss else {}
    on_cpu = initfast.profile(net, x, **options)
    net, x = net.cuda(), x.cuda()
    initfast.profile(net, x, **options)  # what a first call loads
    on_card, count = waits(initfast.profile, net, x, **options)
    assert count == 1  # for the copy of all statistics
    assert same(on_card, on_cpu, rel)


def test_a_profile_of_convolutions_waits_once():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten())
    x = torch.randn(2, 3, 9, 9)
    on_cpu = initfast.profile(net, x)
    net, x = net.cuda(), x.cuda()
    initfast.profile(net, x)
    on_card, count = waits(initfast.profile, net, x)
    assert count == 1
    for a, b in zip(on_cpu.layers, on_card.layers, strict=True):
        assert a.op == b.op and b.post.std == pytest.approx(a.post.std, rel=1e-3)


def test_a_profiler_waits_for_nothing_but_its_reports():
    net, x = deep(3).cuda(), torch.randn(16, 64).cuda()

    def train():
        with initfast.Profiler(net, every=2) as profiler:
            for _ in range(4):
                net(x).square().mean().backward()
        return profiler

    train()
    profiler, count = waits(train)
    assert count == 2  # calls measured
    assert len(profiler.report().layers) == 3


@pytest.mark.parametrize("bad", [0, 3, 30, 40])
def test_a_stop_at_the_first_nonfinite_value_waits_only_for_the_report(bad):
    net, x = deep(40, width=16), torch.randn(16, 16)
    if bad < 40:
        net[2 * bad].weight.data.fill_(torch.inf)
    on_cpu = initfast.profile(net, x, stop_at_nonfinite=True)
    net, x = net.cuda(), x.cuda()
    initfast.profile(net, x, stop_at_nonfinite=True)
    on_card, count = waits(initfast.profile, net, x, stop_at_nonfinite=True)
    assert count == (1 if bad == 40 else 2)  # statistics; which parameters were bad before
    assert [layer.name for layer in on_card.layers] == [layer.name for layer in on_cpu.layers]
    assert (on_card.first_nonfinite is None) == (bad == 40)
    assert on_card.origin == on_cpu.origin


# ---- the card's own sanitizer ----

SANITIZED = """
import torch, initfast
from initfast import ops
for dtype in (torch.float32, torch.bfloat16):
    for n in (1, 33, 4099):
        x = torch.randn(n, 70, device="cuda").to(dtype)
        ops.moments(x[:, 1:]), ops.act(x, "relu"), ops.act(x[:, 3:9], "tanh")
        ops.act_(x.flatten()[1:], "gelu")
        weight = torch.randn(50, 70, device="cuda").to(dtype)
        y, z, *_ = torch.ops.initfast.linear_act(x[:60], weight, None, "gelu", 0.0, 0.0, True)
        torch.ops.initfast.act_backward(y, z, "gelu", 0.0, 0.0)
        initfast.init.normal_(x), initfast.init.sparse_(x, 0.5)
torch.cuda.synchronize()
"""


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(tool):
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    # Before CUDA 12.3 the option was --kernel-regex.
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--kernel-name", "kns=initfast"]
    result = subprocess.run(
        [*command, sys.executable, "-c", SANITIZED], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr


class OnTwoStreams(nn.Module):
    """Something slow on a stream of its own, beside something else on the current one."""

    def __init__(self, slow):
        super().__init__()
        self.slow, self.beside = slow, nn.LayerNorm(64)

    def forward(self, x):
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            y = self.slow(x)
        z = self.beside(x)
        current.wait_stream(side)
        y.record_stream(current)
        return torch.tanh(y) + z


class OnOneStream(OnTwoStreams):
    """The same functions in the same order."""

    def forward(self, x):
        y, z = self.slow(x), self.beside(x)
        return torch.tanh(y) + z


@pytest.mark.parametrize("slow", [nn.Linear(64, 64), nn.LayerNorm(64), deep(2)], ids=str)
@pytest.mark.parametrize("with_loss", [False, True])
def test_values_of_two_streams_are_measured_after_they_were_made(slow, with_loss):
    options = {"loss": loss} if with_loss else {}
    net, x = OnTwoStreams(slow).cuda(), torch.randn(512, 64).cuda()
    expected = initfast.profile(OnOneStream(slow).cpu(), x.cpu(), **options)
    net.cuda()
    for _ in range(3):
        report = initfast.profile(net, x, **options)
        assert {layer.name: layer.std for layer in report} == pytest.approx(
            {layer.name: layer.std for layer in expected}, rel=1e-3
        )


def test_a_graphs_capture_goes_on_and_nothing_is_measured():
    net, x = deep(2).cuda(), torch.randn(16, 64).cuda()
    with torch.no_grad():
        expected, graph = net(x), torch.cuda.CUDAGraph()
        with initfast.Profiler(net) as profiler, torch.cuda.graph(graph):
            y = net(x)
            report = initfast.profile(net, x)
    graph.replay()
    torch.testing.assert_close(y, expected)
    for found in (report, profiler.report()):
        assert len(found) == 0 and any("CUDA graph" in note for note in found.notes)
