"""A Profiler leaves what torch's fast path through attention computes, to the last bit."""

import pytest
import torch
from torch import nn

import initfast
from initfast.profiling.fast_path import INSIDE

WIDTH = 16


def layer(**options):
    made = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True, **options)
    return made.eval()


def encoder(norm=None):
    return nn.TransformerEncoder(layer(), 2, norm=norm).eval()


def with_dropout(net):
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    return net


class Parts(nn.Module):
    """What comes before and after an encoder, and a branch that draws."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(WIDTH, WIDTH)
        self.body = encoder(nn.LayerNorm(WIDTH))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x, mask):
        return self.head(self.drop(self.body(self.embed(x), src_key_padding_mask=mask)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


PADDING = torch.arange(5).expand(2, 5) >= torch.tensor([[3], [5]])
X = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(0))
NETS = {
    "layer": (layer, (X,)),
    "norm first, gelu": (lambda: layer(norm_first=True, activation="gelu"), (X,)),
    "dropout": (lambda: with_dropout(layer()), (X,)),
    "padded": (encoder, (X, None, PADDING)),
    "padded, with dropout": (lambda: with_dropout(encoder()), (X, None, PADDING)),
    "parts": (lambda: with_dropout(Parts()), (X, PADDING)),
    "attention": (lambda: Attention().eval(), (X,)),
}


def run(net, args):
    """Its result, and torch's random state afterwards."""
    torch.manual_seed(1)
    return net(*args), torch.get_rng_state()


@pytest.mark.parametrize("make, args", NETS.values(), ids=NETS)
@torch.no_grad()
def test_values_and_draws_are_torchs(make, args):
    torch.manual_seed(0)
    net = make()
    expected, state = run(net, args)
    with initfast.Profiler(net) as outer, initfast.Profiler(net) as p:
        for _ in range(2):
            found, found_state = run(net, args)
            assert torch.equal(found, expected) and torch.equal(found_state, state)
    for report in (outer.report(), p.report()):
        assert report.notes == [INSIDE]
        mean = pytest.approx(expected.double().mean().item(), abs=1e-7)
        assert mean in [one.post.mean for one in report if one.is_returned]
        assert sum(one.op.startswith("linear") for one in report) >= ("linear1" in str(net))
        assert all(one.post.count % 4 == 0 for one in report)  # each ran once in a call


@torch.no_grad()
def test_rows_are_those_of_a_profile():
    net = encoder()
    with initfast.Profiler(net) as p:
        net(X)
    assert [one.name for one in p.report()] == [one.name for one in initfast.profile(net, X)]


def test_where_torch_does_not_take_it_nothing_runs_twice():
    calls = []
    hooked, odd, graph = layer(), nn.TransformerEncoderLayer(15, 3, 8, batch_first=True), layer()
    hooked.linear1.register_forward_hook(lambda *_: calls.append(1))
    for net, x in ((hooked, X), (odd.eval(), X[..., :15]), (graph, X)):
        with torch.set_grad_enabled(net is graph), initfast.Profiler(net) as p:
            expected = net(x)
            assert torch.equal(net(x), expected)
        assert (INSIDE in p.report().notes) == (net is hooked)  # by its attention alone
        assert p.report()["linear1"].post.count == 2 * 2 * 5 * net.linear1.out_features
    assert len(calls) == 2


class Noisy(nn.TransformerEncoderLayer):
    """A forward of its own, which draws and counts."""

    calls = 0

    def forward(self, x, *args, **kwargs):
        self.calls += 1
        return super().forward(x + 0.1 * torch.randn_like(x), *args, **kwargs)


@pytest.mark.parametrize("is_inside", [False, True])
@torch.no_grad()
def test_a_forward_of_ones_own_runs_once(is_inside):
    noisy = Noisy(WIDTH, 2, 32, batch_first=True).eval()
    net = nn.TransformerEncoder(noisy, 2).eval() if is_inside else noisy
    expected, state = run(net, (X,))
    with initfast.Profiler(net):
        found, found_state = run(net, (X,))
    assert torch.allclose(found, expected, atol=1e-5) and torch.equal(found_state, state)
    assert sum(m.calls for m in net.modules() if isinstance(m, Noisy)) == (4 if is_inside else 2)


@torch.no_grad()
def test_a_global_hook_is_called():
    net = layer()
    twice = nn.modules.module.register_module_forward_hook(
        lambda module, args, y: 2 * y if module is net else None
    )
    try:
        expected = net(X)
        with initfast.Profiler(net):
            assert torch.allclose(net(X), expected, atol=1e-5)
    finally:
        twice.remove()


@pytest.mark.parametrize("by_name", [False, True])
@torch.no_grad()
def test_attention_to_others_has_no_fast_path(by_name):
    net = nn.MultiheadAttention(WIDTH, 2, batch_first=True).eval()
    other = X.flip(1)
    with initfast.Profiler(net) as p:
        net(X, key=other, value=other) if by_name else net(X, other, other)
    assert INSIDE not in p.report().notes
