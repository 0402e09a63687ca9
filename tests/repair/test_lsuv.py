"""lsuv_: one forward does what the paper's algorithm does in one or more for each layer."""

import copy
import time

import pytest
import torch
from cases.small_nets import Decoder, ResNet
from torch import nn
from torch.nn.utils import parametrizations

import initfast
from initfast.errors import ArgumentError

KINDS = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d, nn.MultiheadAttention)


def sequential(net, x, tolerance):
    """Mishkin & Matas 2016, algorithm 1, without the orthonormal start: layer by layer."""
    found = []
    inside = {id(m.out_proj) for m in net.modules() if isinstance(m, nn.MultiheadAttention)}
    for layer in net.modules():
        if not isinstance(layer, KINDS) or id(layer) in inside:
            continue

        def keep(module, args, output):
            found.append(output[0] if isinstance(output, tuple) else output)

        handle = layer.register_forward_hook(keep)
        for _ in range(10):
            with torch.no_grad():
                net(x)
                std = found.pop().double().std().item()
                if abs(std - 1) <= tolerance:
                    break
                weight = layer.out_proj.weight if hasattr(layer, "out_proj") else layer.weight
                weight /= std
        handle.remove()


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 32, bias=False)
        self.attention = nn.MultiheadAttention(32, 4, bias=False, batch_first=True)
        self.last = nn.Linear(32, 8, bias=False)

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.attention(x, x, x)[0])


def bias_free():
    conv = nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, groups=4, bias=False),
        nn.BatchNorm2d(16),
        nn.ConvTranspose2d(16, 8, 3, stride=2, bias=False),
        nn.Tanh(),
    )
    plain = nn.Sequential(
        *[m for _ in range(8) for m in (nn.Linear(32, 32, bias=False), nn.GELU())]
    )
    return [(conv, (8, 3, 12, 12)), (plain, (64, 32)), (Attends(), (4, 10, 32))]


@pytest.mark.parametrize("index", range(3))
def test_the_weights_are_those_of_the_sequential_algorithm(index):
    torch.manual_seed(index)
    net, shape = bias_free()[index]
    net.eval()
    other, x = copy.deepcopy(net), torch.randn(shape)
    sequential(other, x, 0.1)
    done = initfast.lsuv_(net, x, tolerance=0.1)
    assert done.scaled
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()


@pytest.mark.parametrize("make", [ResNet, Attends])
def test_with_biases_one_pass_is_exact_too(make):
    net = make()
    x = torch.randn(8, 3, 12, 12) if make is ResNet else torch.randn(8, 10, 32)
    for p in net.parameters():
        nn.init.normal_(p, 0.1, 0.5)
    initfast.lsuv_(net, x, tolerance=0.0)
    net.eval()
    stds = {}
    for name, m in net.named_modules():
        if isinstance(m, KINDS):
            m.register_forward_hook(
                lambda m, a, y, name=name: stds.update(
                    {name: (y[0] if isinstance(y, tuple) else y).std().item()}
                )
            )
    with torch.no_grad():
        net(x)
    assert len(stds) > 2
    assert all(abs(std - 1) < 1e-4 for std in stds.values()), stds


def test_orthonormal_start():
    net, x = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32)), torch.randn(64, 32)
    torch.manual_seed(3)
    done = initfast.lsuv_(net, x, orthonormal=True, tolerance=0.0)
    w = net[2].weight / done.scaled[1].factor
    torch.testing.assert_close(w @ w.T, torch.eye(32), atol=1e-5, rtol=0)
    assert (net[0].bias == 0).all()


def test_the_net_is_otherwise_as_it_was():
    net = ResNet().train()
    net.blocks[1].eval()
    buffers = [b.clone() for b in net.buffers()]
    x = torch.randn(4, 3, 8, 8)
    state, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    initfast.lsuv_(net, x)
    assert net.training and not net.blocks[1].training and net.blocks[2].training
    assert all(map(torch.equal, buffers, net.buffers()))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert not any(m._forward_hooks for m in net.modules())


def reasons(net, x, **kwargs):
    return {item.name: item.reason for item in initfast.lsuv_(net, x, **kwargs).left}


def test_what_is_not_scaled_is_named():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    net.unused = nn.Linear(8, 8)
    net[0].weight.requires_grad_(False)
    net[1].weight.data.zero_()
    net[1].bias.data.fill_(1.0)
    net.forward = lambda x: net[2](net[1](net[0](x)))
    found = reasons(net, torch.randn(16, 8))
    assert found == {
        "0": "it is frozen or quantised",
        "1": "its output is constant: its std is 0",
        "unused": "it was not called as a module",
    }
    assert (net[1].weight == 0).all()
    tied = Decoder(tied=True)
    found = reasons(tied, torch.randint(80, (2, 8)))
    assert "tok_embeddings.weight and lm_head.weight" in found["lm_head"]


def test_a_shared_layer_is_scaled_once_as_its_first_call_says():
    layer = nn.Linear(16, 16)
    net, x = nn.Sequential(layer, nn.ReLU(), layer), torch.randn(64, 16)
    assert reasons(net, x) == {"0": "called 2 times, scaled at the first"}
    assert abs(layer(x).std() - 1) < 1e-5


class Standardised(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w, self.bias)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_layers_of_the_users_own():
    net = nn.Sequential(Standardised(3, 4, 3, bias=False), nn.Flatten(), Doubled(144, 8))
    before, x = net[0].weight.clone(), torch.randn(8, 3, 8, 8)
    assert reasons(net, x) == {"0": "its output does not scale with its weight"}
    assert torch.equal(net[0].weight, before)
    assert abs(net(x).std() - 1) < 1e-5


def test_parametrized_weights():
    x = torch.randn(64, 16)
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(16, 16)))
    assert not reasons(net, x)
    assert abs(net(x).std() - 1) < 1e-5
    net = nn.Sequential(parametrizations.spectral_norm(nn.Linear(16, 16))).eval()
    before = [p.clone() for p in net.parameters()]
    assert list(reasons(net, x)) == ["0"]
    assert all(map(torch.equal, before, net.parameters()))


@pytest.mark.parametrize(
    ("net", "kwargs", "message"),
    [
        (nn.ReLU(), {}, "no linear layer"),
        (nn.Linear(4, 4), {"tolerance": -1.0}, "tolerance is -1.0"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4)), {}, "shapes cannot be multiplied"),
    ],
)
def test_bad_input(net, kwargs, message):
    before = [p.clone() for p in net.parameters()]
    with pytest.raises((ArgumentError, RuntimeError), match=message):
        initfast.lsuv_(net, torch.randn(4, 4), orthonormal=True, **kwargs)
    assert all(map(torch.equal, before, net.parameters()))


def test_an_output_that_is_not_finite_is_named_and_nothing_changes():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight.data.fill_(torch.nan)
    before = net[0].weight.clone()
    with pytest.raises(ArgumentError, match=r"layer '1' \(Linear\) has 16 values"):
        initfast.lsuv_(net, torch.randn(4, 4))
    assert torch.equal(net[0].weight, before) and not net[0]._forward_hooks


def test_one_forward_and_no_more():
    net, x = ResNet(c=64, n=3), torch.randn(4, 3, 16, 16)
    calls = []
    net.fc.register_forward_pre_hook(lambda *_: calls.append(1))
    initfast.lsuv_(net, x)
    assert len(calls) == 1

    def cpu(f):
        began = time.process_time()
        f()
        return time.process_time() - began

    net.eval()
    with torch.no_grad():
        ratios = [cpu(lambda: initfast.lsuv_(net, x)) / cpu(lambda: net(x)) for _ in range(6)]
    assert min(ratios) < 2


def test_spectral_norms_state_does_not_move():
    for norm in (parametrizations.spectral_norm, nn.utils.spectral_norm):
        net = nn.Sequential(norm(nn.Linear(16, 16)), nn.ReLU(), norm(nn.Linear(16, 16)))
        before = {name: t.clone() for name, t in net.state_dict().items()}
        done = initfast.lsuv_(net, torch.randn(32, 16))
        assert net.training and [item.name for item in done.left] == ["0", "2"]
        after = net.state_dict()
        assert all(torch.equal(t, after[name]) for name, t in before.items())


def test_an_older_weight_norm_is_scaled_for_good():
    net = nn.Sequential(nn.utils.weight_norm(nn.Linear(16, 16)), nn.ReLU())
    x = torch.randn(64, 16)
    done = initfast.lsuv_(net, x)
    assert [layer.name for layer in done.scaled] == ["0"]
    assert net[0](x).std().item() == pytest.approx(1, abs=1e-5)


class Recorder(nn.Module):
    """A post-norm block that keeps what its branches add."""

    def __init__(self):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.linear1, self.linear2 = nn.Linear(32, 64), nn.Linear(64, 32)
        self.variances = []

    def forward(self, x):
        branch = self.self_attn(x, x, x, need_weights=False)[0]
        x = self.norm1(x + branch)
        after = self.linear2(self.linear1(x).relu())
        self.variances = [branch.var().item(), after.var().item()]
        return self.norm2(x + after)


def test_omegas_are_the_root_of_what_the_branches_before_have_added():
    """Liu et al. 2020, section 4.2, from the branches of a forward after the scaling."""
    net = nn.Sequential(nn.Linear(8, 32), nn.Sequential(*[Recorder() for _ in range(3)]))
    for block in net[1][1:]:
        block.linear2.weight.requires_grad_(False)  # left as it is, with a variance of its own
    done = initfast.lsuv_(net, torch.randn(64, 6, 8))
    net(torch.randn(64, 6, 8))
    variances = [v for block in net[1] for v in block.variances]
    names = [f"1.{i}.{name}" for i in range(3) for name in ("self_attn", "linear2")]
    assert list(done.omegas) == names and 0 < variances[3] < 0.5
    for i, name in enumerate(names):
        assert done.omegas[name] == pytest.approx((1 + sum(variances[:i])) ** 0.5, rel=0.05)
    assert initfast.lsuv_(nn.Linear(4, 4), torch.randn(8, 4)).omegas == {}
