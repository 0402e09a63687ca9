"""profile(backward="random"): gradients without a loss, of the partial Jacobians."""

import math

import pytest
import torch
from cases.profiles import batch
from torch import nn

import initfast

WIDTH = 512


def deep(act=nn.Tanh, depth=6, gain=1.0, width=WIDTH):
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), act())])
    for p in net.parameters():
        nn.init.normal_(p, 0, gain / math.sqrt(width)) if p.dim() > 1 else nn.init.zeros_(p)
    return net


def test_the_gradients_are_autograds_of_that_cotangent():
    net, x = deep(depth=2, width=12).double(), batch(6, 12).double()
    torch.manual_seed(5)
    cotangent = torch.randn(72, generator=torch.Generator().manual_seed(5)).reshape(6, 12).double()
    report = initfast.profile(net, x, backward="random")
    net(x).backward(cotangent)
    for layer in report:
        truth = net[int(layer.name)].weight.grad
        assert layer.weight_grad.std == pytest.approx(truth.std().item(), rel=1e-9)
    assert report[-1].grad.std == pytest.approx(cotangent.std().item(), rel=1e-6)
    assert report.loss is None and 'backward="random"' in " ".join(report.notes)


def test_the_state_stays_and_the_seed_decides():
    net, x = deep(depth=2), batch(8, WIDTH)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = initfast.profile(net, x, backward="random")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in net.parameters())
    assert initfast.profile(net, x, backward="random").layers == first.layers
    torch.manual_seed(2)
    assert initfast.profile(net, x, backward="random").layers != first.layers


@pytest.mark.parametrize("act, gain", [("tanh", 1.0), ("tanh", 1.6), ("relu", math.sqrt(2))])
def test_from_layer_to_layer_it_is_chi(act, gain):
    net = deep({"tanh": nn.Tanh, "relu": nn.ReLU}[act], gain=gain)
    report = initfast.profile(net, batch(64, WIDTH), backward="random")
    for before, layer in zip(report.layers, report.layers[1:], strict=False):
        q = layer.pre.rms**2
        expected = initfast.theory.chi(act, q, gain)
        assert (before.grad.rms / layer.grad.rms) ** 2 == pytest.approx(expected, rel=0.12)


def test_it_finds_what_a_loss_finds_and_no_check_is_left_out():
    net = deep(depth=24, gain=0.3, width=64)
    report = initfast.profile(net, batch(32, 64), backward="random")
    assert "gradient_vanishing" in [f.rule for f in report.findings]
    assert not [c for c in report.skipped_checks if c.rule.startswith("gradient")]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_large_output_in_16_bits(dtype):
    net = nn.Linear(64, 64).to(dtype)
    nn.init.constant_(net.bias, 3e4)
    report = initfast.profile(net, batch(64, 64).to(dtype), backward="random")
    assert report[0].grad.nonfinite == 0
    assert report[0].grad.rms == pytest.approx(1, rel=0.05)


def test_every_real_tensor_of_the_output_takes_part():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            return {"a": self.a(x), "of_b": (self.b(x), torch.arange(3), x)}

    report = initfast.profile(Two(), batch(64, 8), backward="random")
    assert [report[name].grad.rms for name in "ab"] == pytest.approx([1, 1], rel=0.15)


def test_what_cannot_go_back_says_so():
    x = batch(4, 8)
    with pytest.raises(TypeError, match=r'loss and backward="random" are both given'):
        initfast.profile(nn.Linear(8, 8), x, backward="random", loss=torch.sum)
    with pytest.raises(ValueError, match=r"backward is 'all'; expected \"random\" or None"):
        initfast.profile(nn.Linear(8, 8), x, backward="all")
    with pytest.raises(ValueError, match=r"finds no graph: the output is a tensor of torch.float"):
        initfast.profile(nn.Linear(8, 8).requires_grad_(False), x, backward="random")
    with pytest.raises(ValueError, match="the output is a list without such a tensor"):
        initfast.profile(lambda t: [t.argmax()], x, backward="random")


def test_a_gradient_that_is_nan_is_traced():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    report = initfast.profile(lambda x: (net(x) * 0).sqrt(), batch(4, 8), backward="random")
    assert any(layer.grad is not None and layer.grad.nonfinite for layer in report)
    assert "sqrt" in str(report)
