"""stop_at_nonfinite where rows arrive late, as a card's do: nothing waits, no report is another."""

from __future__ import annotations

import pytest
import torch
from cases.profiles import batch
from torch import nn

from initfast.profiling.profile import profile
from initfast.recording import stop_at_nonfinite


class Late:
    """Rows that arrive when a number of further rows have been asked for."""

    def __init__(self, delay: int) -> None:
        self.delay = delay
        self.started = 0
        self.waits = 0

    def start(self, rows: torch.Tensor) -> tuple[torch.Tensor, stop_at_nonfinite.Arrival]:
        self.started += 1
        copy = torch.full_like(rows, torch.nan)  # what nobody may look at yet
        return copy, Late.Arrival(self, rows, copy, self.started + self.delay)

    class Arrival:
        def __init__(self, late, rows, copy, due):
            self.late, self.rows, self.copy, self.due = late, rows, copy, due

        def query(self):
            arrived = self.late.started >= self.due
            if arrived:
                self.copy.copy_(self.rows)
            return arrived

        def synchronize(self):
            self.late.waits += 1
            self.copy.copy_(self.rows)


@pytest.fixture
def late(monkeypatch):
    """Makes rows late by so many."""

    def by(delay: int) -> Late:
        late = Late(delay)
        monkeypatch.setattr(stop_at_nonfinite.Travel, "start", lambda _, rows: late.start(rows))
        return late

    return by


class Counted(nn.Module):
    """Counts its calls; divides by zero at one of them."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad, self.calls = bad, 0

    def forward(self, x):
        self.calls += 1
        return x / 0 if self.calls == self.bad else x / 1


def deep(bad: int) -> tuple[nn.Module, Counted]:
    counted = Counted(bad)
    return nn.Sequential(*[m for _ in range(20) for m in (nn.LayerNorm(4), counted)]), counted


def shown(report):
    return [(layer.name, layer.op, layer.nonfinite) for layer in report.layers]


@pytest.mark.parametrize("delay", [0, 1, 5, 1000])
@pytest.mark.parametrize("bad", [1, 7, 20, 21])
def test_the_report_ends_at_the_first_layer_however_late_its_row_is(late, delay, bad):
    x = batch(3, 4)
    at_once = profile(deep(bad)[0], x, stop_at_nonfinite=True)
    late(delay)
    net, counted = deep(bad)
    report = profile(net, x, stop_at_nonfinite=True)
    assert shown(report) == shown(at_once) and str(report) == str(at_once)
    assert (report.first_nonfinite is None) == (bad > 20)
    assert min(bad, 20) <= counted.calls <= min(bad + delay, 20)
    assert counted.calls == 20 or delay < 1000


@pytest.mark.parametrize("bad", [7, 21])
def test_nothing_waits_before_the_end(late, bad):
    rows = late(10)
    waits = []
    net, _ = deep(bad)
    net[-1].register_forward_hook(lambda *_: waits.append(rows.waits))
    profile(net, batch(3, 4), stop_at_nonfinite=True)
    assert not any(waits)
    assert (rows.waits > 0) == (bad > 20)  # at the end, for the last ten


def test_what_the_net_raises_because_of_it_does_not_hide_it(late):
    class Asserting(nn.Module):
        def forward(self, x):
            assert x.isfinite().all()
            return x

    late(1000)
    net = nn.Sequential(nn.LayerNorm(4), Counted(1), nn.LayerNorm(4), Asserting())
    report = profile(net, batch(3, 4), stop_at_nonfinite=True)
    assert report.first_nonfinite.name == "1"
    net[1] = nn.Identity()
    net[3].forward = lambda x: x.no_such_attribute
    with pytest.raises(AttributeError, match="no_such_attribute"):
        profile(net, batch(3, 4), stop_at_nonfinite=True)


def test_a_card_that_fails_does_not_hide_the_nets_own_error(late, monkeypatch):
    def fail(_):
        raise RuntimeError("unspecified launch failure")

    late(1000)
    monkeypatch.setattr(Late.Arrival, "synchronize", fail)
    with pytest.raises(AttributeError):
        profile(lambda x: nn.functional.relu(x).no_such, batch(3, 4), stop_at_nonfinite=True)
    with pytest.raises(RuntimeError, match="launch failure"):
        profile(nn.ReLU(), batch(3, 4), stop_at_nonfinite=True)


def test_no_backward_follows(late):
    late(1000)
    losses = []
    net, _ = deep(5)
    report = profile(
        net, batch(3, 4), loss=lambda y: losses.append(y) or y.sum(), stop_at_nonfinite=True
    )
    assert losses == [] and report.layers[0].grad is None
    assert report.first_nonfinite is report.layers[-1]


@pytest.mark.parametrize("delay", [0, 3, 1000])
def test_a_function_is_named_however_late(late, delay):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.after = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x):
            y = self.before(x)
            y = y - y
            z = y / y.sum()
            return self.after(torch.abs(z))

    late(delay)
    report = profile(nn.Sequential(Plain(), nn.LayerNorm(4)), batch(4, 4), stop_at_nonfinite=True)
    assert [layer.op for layer in report.layers] == ["LayerNorm", "div", "linear"]


def test_pinned_memory_is_asked_for_in_large_pieces(monkeypatch):
    class CardRows:
        """Rows that say they are a card's."""

        is_cuda, device, shape = True, "cuda:0", (2, 12)

        def numel(self):
            return 24

    asked, empty = [], torch.empty
    monkeypatch.setattr(torch.cuda, "Event", lambda: Late.Arrival(None, None, None, 0))
    monkeypatch.setattr(Late.Arrival, "record", lambda *_: None, raising=False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.Tensor, "copy_", lambda t, rows, non_blocking: t)
    travel = stop_at_nonfinite.Travel()
    monkeypatch.setattr(
        torch, "empty", lambda *size, pin_memory, **how: asked.append(size) or empty(*size, **how)
    )
    with torch.inference_mode():
        places = [travel.start(CardRows())[0] for _ in range(600)]
    assert len(asked) == 2
    assert len({t.data_ptr() for t in places}) == 600
    assert not places[0].untyped_storage().data_ptr() == places[-1].untyped_storage().data_ptr()
    assert not any(t.is_inference() for t in (places[0]._base, places[-1]._base))


@pytest.mark.parametrize("loss", [None, torch.sum])
@pytest.mark.parametrize("delay", [0, 1, 1000])
@pytest.mark.parametrize("bad", [0, 2, 4, None])
def test_the_layers_of_a_sequential_keep_their_other_names(late, delay, bad, loss):
    pairs = [m for _ in range(3) for m in (nn.Linear(4, 4), nn.Tanh())]
    net, x = nn.Sequential(*pairs, nn.LayerNorm(4)), batch(3, 4)
    if bad is not None:
        net[bad].weight.data[0, 0] = torch.nan
    whole = profile(net, x, loss=loss)
    late(delay)
    report = profile(net, x, loss=loss, stop_at_nonfinite=True)
    count = 4 if bad is None else bad // 2 + 1
    assert len(report) == count
    assert [x.also for x in report] == [x.also for x in whole][:count]
