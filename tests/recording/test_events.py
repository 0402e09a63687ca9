"""What an event says: every field of what different nets run, by its name.

Where a row lies is found by what it holds, so that an address in the wrong field is seen.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initfast.nets.activation_calls import Call
from initfast.profiling.profile import profile
from initfast.recording.events import Event, Source
from initfast.recording.layers import Recording
from initfast.recording.recorder import Recorder
from initfast.stats.moments import Moments


class Seen:
    """The recording of one profile, and where the rows and masks of its tensors lie."""

    def __init__(self, recording: Recording) -> None:
        rows, self._masks, *_ = recording.copies
        self._rows = [Moments.from_row(row.tolist()) for row in rows]
        self.events = recording.events

    def row(self, t: torch.Tensor) -> int:
        """The address of the one row that holds the moments of t."""
        (address,) = self.rows(t)
        return address

    def rows(self, t: torch.Tensor) -> list[int]:
        """The addresses of all rows that do."""
        t = t.detach()
        facts = t.numel(), t.mean().item(), t.std().item(), t.min().item(), t.max().item()
        return [
            address
            for address, row in enumerate(self._rows)
            if (row.count, row.mean, row.std, row.min, row.max) == pytest.approx(facts)
        ]

    def mask(self, live: torch.Tensor) -> int:
        """The number of the one mask that is this."""
        (number,) = [i for i, mask in enumerate(self._masks) if np.array_equal(mask, live)]
        return number


@pytest.fixture
def recorded(monkeypatch):
    """Profiles a net; returns what was recorded."""

    def run(net, *x, **options) -> Seen:
        seen, read = [], Recorder.read
        monkeypatch.setattr(Recorder, "read", lambda *args: seen.append(read(*args)) or seen[0])
        profile(net, x, **options)
        return Seen(seen[0])

    return run


def normal(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


class InLoop(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def linear_event(seen, name, x, layer, call, z, y):
    """What is to be written of a linear layer and its activation, every field by its name."""
    return Event(
        source=Source(
            kind="linear",
            name=name,
            input_shape=tuple(x.shape),
            inputs=(seen.row(x),),
            weight=seen.row(layer.weight),
            fans=None,
            unit_dim=-1,
            weights=(),
        ),
        call=call,
        shape=tuple(y.shape),
        dtype=torch.float64,
        pre=seen.row(z),
        post=seen.row(y),
        live=seen.mask((y != 0).any(0)),
    )


@pytest.mark.parametrize("loss", [None, torch.sum])
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("container, prefix", [(nn.Sequential, ""), (InLoop, "layers.")])
def test_linear_layers_and_their_activations(recorded, container, prefix, stop, loss):
    torch.manual_seed(0)
    first, second, last = nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 3)
    net = container(first, nn.ReLU(), second, nn.ELU(0.7), last).double()
    first.bias.data[2] = -100.0
    x = normal(8, 4)
    seen = recorded(net, x, stop_at_nonfinite=stop, loss=loss)
    with torch.no_grad():
        z1 = first(x)
        y1 = z1.relu()
        z2 = second(y1)
        y2 = F.elu(z2, 0.7)
    assert seen.events[:2] == [
        linear_event(seen, prefix + "0", x, first, Call("relu", 0.0, 0.0, False), z1, y1),
        linear_event(seen, prefix + "2", y1, second, Call("elu", 0.7, 0.0, False), z2, y2),
    ]
    assert len(seen.events) == 3
    end = seen.events[2]
    weight = seen.row(last.weight)
    assert end.source == Source("linear", prefix + "4", (8, 6), (seen.row(y2),), weight)
    assert (end.shape, end.dtype, end.activation) == ((8, 3), torch.float64, None)


def test_a_weight_with_fans_and_a_mask_of_channels(recorded):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU())
    net[0].bias.data[1] = -100.0
    x = normal(4, 2, 5, 5, dtype=torch.float32)
    seen = recorded(net, x)
    with torch.no_grad():
        z = net[0](x)
        y = z.relu()
    assert seen.events == [
        Event(
            source=Source(
                kind="Conv2d",
                name="0",
                input_shape=(4, 2, 5, 5),
                inputs=(seen.row(x),),
                weight=seen.row(net[0].weight),
                fans=(8, 12),
                unit_dim=-3,
                weights=(),
            ),
            call=Call("relu", 0.0, 0.0, False),
            shape=(4, 3, 4, 4),
            dtype=torch.float32,
            pre=seen.row(z),
            post=seen.row(y),
            live=seen.mask((y != 0).flatten(2).any(-1).any(0)),
        )
    ]


def test_an_activation_that_stands_alone(recorded):
    x = normal(6, 4)
    x[:, 1] = -100.0
    seen = recorded(nn.ReLU(), x)
    y = x.relu()
    _, pre = seen.rows(x)  # as the net's input, and by the activation
    assert seen.events == [
        Event(
            source=Source(kind="act", name="", input_shape=(6, 4), inputs=(pre,)),
            call=Call("relu", 0.0, 0.0, False),
            shape=(6, 4),
            dtype=torch.float64,
            pre=pre,
            post=seen.row(y),
            live=seen.mask((y != 0).any(0)),
        )
    ]


def test_several_inputs_and_several_weights(recorded):
    torch.manual_seed(0)
    net, x = nn.LSTM(4, 3), normal(5, 2, 4, dtype=torch.float32)
    h, c = normal(1, 2, 3, dtype=torch.float32), 2 * normal(1, 2, 3, dtype=torch.float32)
    seen = recorded(net, x, (h, c))
    y, (h_end, c_end) = net(x, (h, c))
    source = Source(
        kind="LSTM[0]",
        name="",
        input_shape=(5, 2, 4),
        inputs=(seen.row(x), seen.row(h), seen.row(c)),
        weight=None,
        fans=None,
        unit_dim=-1,
        weights=(
            ("weight_ih_l0", seen.row(net.weight_ih_l0), (4, 12)),
            ("weight_hh_l0", seen.row(net.weight_hh_l0), (3, 12)),
        ),
    )
    assert seen.events == [
        Event(
            source=source._replace(kind=kind),
            call=None,
            shape=t.shape,
            dtype=torch.float32,
            pre=None,
            post=seen.row(t),
            live=None,
        )
        for kind, t in [("LSTM[0]", y), ("LSTM[1][0]", h_end), ("LSTM[1][1]", c_end)]
    ]


def test_a_sum_has_both_inputs(recorded):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)

        def forward(self, x):
            return torch.relu(x + self.norm(3 * x + 1))

    net, x = Residual().double(), normal(6, 4)
    seen = recorded(net, x)
    with torch.no_grad():
        a = net.norm(3 * x + 1)
        z = x + a
    _, event = seen.events
    assert event == Event(
        source=Source(
            kind="add",
            name="",
            input_shape=(6, 4),
            inputs=(seen.row(x), seen.row(a)),
            weight=None,
            fans=None,
            unit_dim=-1,
            weights=(),
        ),
        call=Call("relu", 0.0, 0.0, False),
        shape=(6, 4),
        dtype=torch.float64,
        pre=seen.row(z),
        post=seen.row(z.relu()),
        live=seen.mask((z > 0).any(0)),
    )


def test_the_function_that_made_the_first_nonfinite_value(recorded):
    class Divides(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.after = nn.LayerNorm(4), nn.LayerNorm(4)

        def forward(self, x, y):
            z = self.before(x)
            return self.after(torch.div(z, y))

    net, x, y = Divides().double(), normal(6, 4), normal(6, 1)
    y[2] = 0.0
    seen = recorded(net, x, y, stop_at_nonfinite=True)
    z = net.before(x)
    before, function, after = seen.events
    assert before.post == seen.row(z)
    assert (before.source.kind, after.source.kind) == ("LayerNorm", "LayerNorm")
    assert function == Event(
        source=Source(
            kind="div",
            name="",
            input_shape=(6, 4),
            inputs=(seen.row(z), seen.row(y)),
            weight=None,
            fans=None,
            unit_dim=-1,
            weights=(),
        ),
        call=None,
        shape=(6, 4),
        dtype=torch.float64,
        pre=None,
        post=after.source.inputs[0],
        live=None,
    )
