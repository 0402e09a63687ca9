"""Where streams change, what waits runs on the stream that it was asked for on."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from initfast import profile
from initfast.interception import deferred_tensor, queue
from initfast.recording import rows, streams
from initfast.recording.recorder import Recorder


class Streams:
    """Numbers in the place of a card's streams."""

    def __init__(self):
        self.current, self.seen = 1, []

    def of(self, device):
        return self.current

    @contextmanager
    def on(self, device, handle):
        before, self.current = self.current, handle
        yield
        self.current = before
        self.seen.append(f"{before} waits for {handle}")

    def wait_for(self, device, handles):
        self.seen += [f"{self.current} waits for {h}" for h in handles if h != self.current]


@pytest.fixture
def cards(monkeypatch):
    fake, output, linear = Streams(), Recorder.output, Recorder.linear_act
    for module in (streams, queue, deferred_tensor, rows):
        monkeypatch.setattr(module, "stream_of", fake.of)
    monkeypatch.setattr(streams, "_on_other", fake.on)
    monkeypatch.setattr(deferred_tensor, "wait_for", fake.wait_for)

    def seen_output(self, source, *rest):
        fake.seen.append(f"{source.name} on {fake.current}")
        return output(self, source, *rest)

    def seen_linear(self, x, kernels, layer):
        fake.seen.append(f"{layer.name} on {fake.current}")
        return linear(self, x, kernels, layer)

    monkeypatch.setattr(Recorder, "output", seen_output)
    monkeypatch.setattr(Recorder, "linear_act", seen_linear)
    return fake


class Aside(nn.Module):
    def __init__(self, streams, inner):
        super().__init__()
        self.streams, self.inner, self.beside = streams, inner, nn.GroupNorm(2, 4)

    def forward(self, x):
        self.streams.current = 2
        y = self.inner(x)
        self.streams.current = 1
        return torch.relu(self.beside(x)) + y


@pytest.mark.parametrize("inner", [nn.LayerNorm(4), nn.Linear(4, 4)], ids=["norm", "linear"])
def test_what_waits_runs_on_its_own_stream(cards, inner):
    with torch.no_grad():
        report = profile(Aside(cards, inner), torch.randn(8, 4))
    assert [line for line in cards.seen if "inner" in line] == ["inner on 2"]
    after = cards.seen[cards.seen.index("inner on 2") + 1]
    assert after == "1 waits for 2"
    assert report["inner"].post.count == 32


class LinearAside(nn.Module):
    """A linear layer on stream 2; what comes after is the test's."""

    def __init__(self, cards, after):
        super().__init__()
        self.cards, self.after, self.linear = cards, after, nn.Linear(4, 4)

    def forward(self, x):
        self.cards.current = 2
        return self.after(self.linear(x))


def test_each_stream_that_uses_a_late_result_waits_for_it(cards):
    def after(z):
        found = []
        for cards.current in (2, 3, 4):
            found.append(z + 1)
        cards.current = 1
        return torch.stack(found)

    with torch.no_grad():
        profile(LinearAside(cards, after), torch.randn(8, 4))
    assert cards.seen.index("linear on 2") < cards.seen.index("3 waits for 2")
    assert "4 waits for 2" in cards.seen and "2 waits for 2" not in cards.seen


def test_an_activation_on_another_stream_is_not_fused(cards):
    def after(z):
        cards.current = 1
        return torch.tanh(z)

    with torch.no_grad():
        report = profile(LinearAside(cards, after), torch.randn(8, 4))
    assert "linear on 2" in cards.seen
    assert [layer.op for layer in report] == ["linear", "tanh"]


def test_rows_of_several_streams_are_waited_for(monkeypatch):
    class OnACard(torch.Tensor):
        is_cpu = False

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    current, waited = [7], []
    monkeypatch.setattr(rows, "stream_of", lambda device: current[0])
    monkeypatch.setattr(rows, "wait_for", lambda device, handles: waited.extend(handles))
    kept = rows.Rows()
    for stream in (7, 8):
        current[0] = stream
        kept.add(torch.zeros(1, 12, dtype=torch.float64).as_subclass(OnACard), 1)
    kept.read()
    assert sorted(waited) == [7, 8]


def test_there_are_no_streams_on_the_cpu():
    cpu = torch.device("cpu")
    assert streams.stream_of(cpu) is None and streams.on_stream(cpu, None) is streams.HERE
    assert not streams.is_captured()


def test_nothing_is_measured_while_a_graph_is_captured(monkeypatch):
    from initfast import Profiler
    from initfast.profiling import profile as profiles
    from initfast.profiling import profiler

    for module in (profiles, profiler):
        monkeypatch.setattr(module, "is_captured", lambda: True)
    net, x = nn.Linear(4, 4), torch.ones(2, 4)
    with Profiler(net) as p:
        y = net(x)
    torch.testing.assert_close(y, torch.nn.functional.linear(x, net.weight, net.bias))
    for report in (profile(net, x), p.report()):
        assert len(report) == 0 and streams.CAPTURED in report.notes
