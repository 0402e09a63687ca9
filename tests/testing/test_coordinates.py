"""coordinate_check: muP keeps every scale with the width, the standard parametrisation does not."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import initfast


class MLP(nn.Module):
    def __init__(self, width, mup):
        super().__init__()
        self.first, self.hidden = nn.Linear(16, width), nn.Linear(width, width)
        self.readout = nn.Linear(width, 4)
        for layer in (self.first, self.hidden):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.readout.weight, std=2 / width if mup else width**-0.5)
        self.wide = [self.hidden.weight, self.readout.weight]

    def forward(self, x):
        return self.readout(F.relu(self.hidden(F.relu(self.first(x)))))


class Transformer(nn.Module):
    """Pre-norm, one block, one head; muP divides the logits by the width of a head."""

    def __init__(self, width, mup):
        super().__init__()
        self.embed = nn.Embedding(32, width)
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.readout = nn.Linear(width, 32)
        hidden = [self.qkv, self.o, self.up, self.down]
        for layer in hidden:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.normal_(self.readout.weight, std=2 / width if mup else width**-0.5)
        self.scale = 4 / width if mup else width**-0.5
        self.wide = [layer.weight for layer in (*hidden, self.readout)]

    def forward(self, ids):
        x = self.embed(ids)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, scale=self.scale))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.readout(x)


WIDTHS = {MLP: (32, 64, 128, 256), Transformer: (32, 64, 128)}


def adam(mup, lr=2e-3):
    def make(net):
        ours = {id(p) for p in net.wide} if mup else set()
        groups = [
            {"params": [p], "lr": lr * (32 / p.shape[1] if id(p) in ours else 1)}
            for p in net.parameters()
        ]
        return torch.optim.Adam(groups)

    return make


def check(kind, mup, **more):
    if kind is MLP:
        x, targets, loss = torch.randn(32, 16), torch.randn(32, 4), F.mse_loss
    else:
        x, targets = torch.randint(32, (4, 8)), torch.randint(32, (4, 8))
        loss = lambda y, t: F.cross_entropy(y.flatten(0, 1), t.flatten())  # noqa: E731
    return initfast.coordinate_check(
        lambda width: kind(width, mup),
        WIDTHS[kind],
        x,
        loss=loss,
        targets=targets,
        optimizer=adam(mup),
        seeds=2 if kind is MLP else 1,
        **more,
    )


@pytest.mark.parametrize("kind", [MLP, Transformer])
def test_mup_passes(kind):
    found = check(kind, True, steps=3)
    assert found.is_right, str(found)
    assert "at every width" in str(found)
    slopes = {layer.name: layer for layer in found.layers}
    assert slopes["readout"].initial == pytest.approx(-0.5, abs=0.15) and slopes["readout"].is_fixed


@pytest.mark.parametrize(
    ("kind", "off", "right"),
    [(MLP, ["hidden", "readout"], ["first"]), (Transformer, ["o", "down", "readout"], ["embed"])],
)
def test_the_standard_parametrisation_fails_behind_wide_weights(kind, off, right):
    found = {layer.name: layer for layer in check(kind, False, steps=3).layers}
    for name in off:
        assert "changes more in wider nets" in found[name].fault, name
        assert found[name].change == pytest.approx(1, abs=0.55)
    assert all(not found[name].fault for name in right)


def test_what_is_measured_and_the_random_state_after_it():
    state = torch.get_rng_state()
    x, targets = torch.randn(8, 16), torch.randn(8, 4)
    before = torch.get_rng_state()
    found = initfast.coordinate_check(
        lambda width: MLP(width, True), (32, 64), x, loss=F.mse_loss, targets=targets,
        optimizer=adam(True), steps=2,
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before) and not torch.equal(before, state)
    assert [c.step for c in found.coordinates] == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
    torch.manual_seed(0)
    net = MLP(32, True)
    update, outputs = adam(True)(net), []
    for _ in range(2):
        outputs.append(net.first(x).detach().double())
        F.mse_loss(net(x), targets).backward()
        update.step()
    for step, y in enumerate(outputs):
        seen = found.coordinates[4 * step]
        assert (seen.name, seen.width, seen.step, seen.size) == ("first", 32, step, 8 * 32)
        assert seen.rms == pytest.approx(y.square().mean().sqrt().item(), rel=1e-12)
        assert seen.mean_magnitude == pytest.approx(y.abs().mean().item(), rel=1e-12)
        change = (y - outputs[0]).square().mean().sqrt().item()
        assert seen.change == pytest.approx(change, rel=1e-12)


def test_a_zero_readout_is_judged_once_it_has_changed():
    def make(width):
        net = MLP(width, True)
        nn.init.zeros_(net.readout.weight)
        nn.init.zeros_(net.readout.bias)
        return net

    found = initfast.coordinate_check(
        make, WIDTHS[MLP], torch.randn(32, 16), loss=F.mse_loss, targets=torch.randn(32, 4),
        optimizer=adam(True), seeds=2,
    )  # fmt: skip
    slopes = {layer.name: layer for layer in found.layers}
    assert math.isnan(slopes["readout"].initial) and found.is_right
    assert abs(slopes["hidden"].change) < 0.2  # of the second update: the first leaves it alone


def test_several_calls_and_outputs_have_names_of_their_own():
    class Twice(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.a = nn.Linear(8, width)
            self.lstm = nn.LSTM(width, 8)

        def forward(self, x):
            return self.lstm(self.a(x) + self.a(-x))[0]

    found = initfast.coordinate_check(
        Twice, (8, 16), torch.randn(2, 4, 8), loss=F.mse_loss, targets=torch.zeros(2, 4, 8),
        optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=0.1), steps=2,
    )  # fmt: skip
    names = [layer.name for layer in found.layers]
    assert names == ["a", "a:2", "lstm[0]", "lstm[1][0]", "lstm[1][1]", ""]


def test_too_little_is_refused():
    with pytest.raises(ValueError, match=r"widths is \(8, 8\); expected two or more"):
        initfast.coordinate_check(None, (8, 8), None, loss=None, targets=None, optimizer=None)
    with pytest.raises(ValueError, match="steps is 1 and seeds 1; expected at least 2 and 1"):
        initfast.coordinate_check(
            None, (8, 16), None, loss=None, targets=None, optimizer=None, steps=1
        )
