"""What findings say of causes, and that their code runs on nets of every make and cures them."""

import pytest
import torch
import torch.nn.functional as F
from nets.labelled import BATCH, WIDTH, mlp, normal, rules_of, torch_default
from torch import nn

import initfast
from initfast import profile
from initfast.diagnosis.advice import needed


def deep(act, depth=30, width=128):
    return mlp(act, torch_default, depth, width, bias=None)


class Loose(nn.Module):
    """Its weights are in a list, and no module's."""

    def __init__(self, depth=20):
        super().__init__()
        weights = [0.2 * torch.randn(WIDTH, WIDTH) / WIDTH**0.5 for _ in range(depth)]
        self.ws = nn.ParameterList(map(nn.Parameter, weights))

    def forward(self, x):
        for w in self.ws:
            x = F.relu(F.linear(x, w))
        return x


class Conv1D(nn.Module):
    """A linear layer whose weight is stored as [in, out], as GPT-2's is."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


def gpt_like(wide=2 * WIDTH, depth=8):
    pairs = [(Conv1D(WIDTH, wide), nn.Tanh(), Conv1D(wide, WIDTH), nn.Tanh()) for _ in range(depth)]
    return nn.Sequential(*[module for pair in pairs for module in pair])


def decoder(kind=nn.ConvTranspose1d, depth=9, n=32):
    return nn.Sequential(
        *[m for _ in range(depth) for m in (kind(n, n, 4, 2, 1, bias=False), nn.ReLU())]
    )


def with_embedding():
    """A weight that is no linear layer's lies among those to fill anew."""
    linears = [m for _ in range(12) for m in (nn.Linear(64, 64, bias=False), nn.ReLU())]
    return nn.Sequential(nn.Embedding(50, 64), *linears)


def negative():
    net = mlp(nn.ReLU, normal(2.0), 3)()
    net[2] = nn.Linear(WIDTH, WIDTH, bias=False)
    with torch.no_grad():
        net[2].weight.sub_(0.3)
    return net


NOISE = (BATCH, WIDTH)
CASES = [
    ("leaky ReLU of slope 0.5", deep(lambda: nn.LeakyReLU(0.5)), NOISE, "vanishing"),
    ("ELU of alpha 2", deep(lambda: nn.ELU(2.0)), NOISE, "vanishing"),
    ("CELU of alpha 3", deep(lambda: nn.CELU(3.0)), NOISE, "vanishing"),
    ("SELU", deep(nn.SELU), NOISE, "vanishing"),
    ("ELU", deep(nn.ELU), NOISE, "vanishing"),
    ("hardtanh of 2", deep(lambda: nn.Hardtanh(-2.0, 2.0)), NOISE, "vanishing"),
    ("a list of weights", Loose, NOISE, "vanishing"),
    ("weights stored [in, out]", gpt_like, NOISE, "vanishing"),
    ("transposed convolutions", decoder, (16, 32, 2), "vanishing"),
    ("an embedding before", with_embedding, None, "vanishing"),
    ("dead, without a bias", negative, NOISE, "dead_units"),
]


def batch(shape):
    return torch.randint(50, (64, 4)) if shape is None else torch.rand(shape) + torch.randn(shape)


@pytest.mark.parametrize("build, shape, rule", [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_code_runs_and_cures(build, shape, rule):
    torch.manual_seed(0)
    net = build()
    table = net[0].weight.clone() if shape is None else None
    report = profile(net, batch(shape))
    found = [f for f in report.findings if f.rule == rule and f.severity != "info"]
    assert found and all(f.code for f in found)
    for f in found:
        exec(f.code, {"net": net, "report": report, "initfast": initfast})
    assert rule not in rules_of(profile(net, batch(shape)))
    assert table is None or torch.equal(net[0].weight, table)


def test_the_code_for_a_net_within_another():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    torch.manual_seed(0)
    net = deep(nn.ReLU)()
    report = profile(net, torch.randn(NOISE))
    report.root = "net.module"
    exec(report.findings[0].code, {"net": Wrapper(net), "report": report, "initfast": initfast})
    assert "vanishing" not in rules_of(profile(net, torch.randn(NOISE)))


def test_there_is_no_code_where_none_would_do_anything():
    torch.manual_seed(0)
    net = deep(nn.ReLU, 20)()
    report = profile(lambda x: net(x), torch.randn(NOISE))
    plain = report.findings[0]
    assert plain.rule == "vanishing" and "kaiming_normal_" in plain.advice
    assert report.root == plain.code == ""


@pytest.mark.parametrize("normed", ["weight_norm", "spectral_norm"])
def test_weights_that_are_computed_are_cured_through_what_computes_them_or_not_at_all(normed):
    """initialize_ sets what weight norm computes from; spectral norm divides any scale out."""
    torch.manual_seed(0)
    net = deep(nn.ReLU, 20)()
    for module in net[::2]:
        getattr(nn.utils.parametrizations, normed)(module)
    report = profile(net, torch.randn(NOISE))
    found = [f for f in report.findings if f.rule == "vanishing" and f.severity != "info"]
    code = "initfast.initialize_(net)" if normed == "weight_norm" else ""
    assert found and {f.code for f in found} == {code}
    assert not any("parametrizations" in name for f in found for name in f.names)
    if code:
        exec(code, {"net": net, "initfast": initfast})
        assert "vanishing" not in rules_of(profile(net, torch.randn(NOISE)))


DEPTH = {"vanishing", "explosion", "gradient_vanishing", "gradient_explosion"}
UNSTEADY = [nn.SiLU, nn.Hardswish, nn.GELU]


@pytest.mark.parametrize("act", UNSTEADY)
@pytest.mark.parametrize("depth", [12, 40])
def test_activations_that_hold_no_std_of_one_hold_a_wider_one(act, depth):
    scale = needed(act.__name__.lower())
    for seed, fill in enumerate((torch_default, normal(9.0), normal(1.1 * scale), normal(scale))):
        torch.manual_seed(seed)
        net = mlp(act, fill, depth, bias=None)()
        report = profile(net, torch.randn(NOISE), loss=lambda y: y.square().mean())
        found = [f for f in report.findings if f.severity != "info" and f.rule in DEPTH]
        assert found or seed > 1  # weights that are right at first may keep the scale by chance
        for f in found:
            assert "put a norm before each activation" in f.advice or depth == 12
            exec(f.code, {"net": net, "report": report, "initfast": initfast})
        after = profile(net, torch.randn(NOISE), loss=lambda y: y.square().mean())
        assert not rules_of(after)
        assert not found or 0.1 < after[-2].std / after[0].std < 10


@pytest.mark.parametrize("act", UNSTEADY)
def test_a_norm_before_each_activation_holds_the_scale(act):
    torch.manual_seed(0)
    report = profile(deep(act)(), torch.randn(NOISE))
    assert rules_of(report) == {"vanishing"}
    assert "put a norm before each activation" in report.findings[0].advice
    cured = deep(lambda: nn.Sequential(nn.LayerNorm(128), act()))()
    assert not rules_of(profile(cured, torch.randn(NOISE)))


def test_softplus_passes_on_a_constant():
    torch.manual_seed(0)
    report = profile(deep(nn.Softplus, 20)(), torch.randn(NOISE), loss=lambda y: y.square().mean())
    worst = next(f for f in report.findings if f.rule == "gradient_vanishing")
    assert "softplus" in worst.cause and "a constant" in worst.cause and not worst.code


def test_the_advice_covers_the_whole_run():
    torch.manual_seed(0)
    worst = profile(deep(nn.SELU)(), torch.randn(NOISE)).findings[0]
    assert worst.advice.endswith("on layers 0 to 29")


def test_a_decoder_of_he_for_its_fans_keeps_its_scale():
    torch.manual_seed(0)
    net = decoder()
    for conv in net[::2]:
        # Of 4 taps at a stride of 2 each output sums 2.
        initfast.init.normal_(conv.weight, 0.0, (2 / (32 * 2)) ** 0.5)
    report = profile(net, torch.randn(16, 32, 2))
    assert report[0].weight.fan_in == 64 and report[0].weight.fan_out == 128
    assert not rules_of(report)
    two = nn.ConvTranspose2d(6, 8, 4, (2, 3), groups=2)
    assert profile(two, torch.randn(1, 6, 5, 5))[0].weight.fan_in == 3 * 16 // 6


class Quarter(nn.Module):
    def forward(self, x):
        return x / 4


def test_weights_that_do_the_opposite_are_not_called_right():
    layers = [m for _ in range(16) for m in (nn.Linear(WIDTH, WIDTH), nn.ReLU(), Quarter())]
    net = nn.Sequential(*layers)
    torch.manual_seed(0)
    for linear in net[::3]:
        normal(8.0)(linear.weight.data)
    found = [f for f in profile(net, torch.randn(NOISE)).findings if f.rule == "vanishing"]
    assert found and all("suits" not in f.cause for f in found)
    assert found[0].cause.startswith("not the weights: fan_in × Var(w) is")


def test_the_ends_of_a_stretch_bear_it_out():
    torch.manual_seed(0)
    stds = [0.78**i for i in range(14)] + [0.4]
    ends = [stds[0], stds[-1]]
    assert (ends[0] / ends[1]) ** 2 < 10
    layers = [Quarter() for _ in stds]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(layers)

        def forward(self, x):
            return [part(4 * s * x) for part, s in zip(self.parts, stds, strict=True)]

    for f in profile(Net(), torch.randn(NOISE)).findings:
        if f.rule == "vanishing" and f.severity != "info":
            first, last = f.first, f.last
            assert (stds[first] / stds[last]) ** 2 > 10


def test_a_cell_called_again_and_again_is_called_recurrent():
    class Unrolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.RNNCell(8, 32), nn.Linear(32, 1)
            with torch.no_grad():
                self.cell.weight_hh.mul_(0.3)

        def forward(self, x):
            h = x.new_zeros(x.shape[0], 32)
            for step in x.unbind(1):
                h = self.cell(step, h)
            return self.head(h)

    torch.manual_seed(0)
    report = profile(Unrolled(), torch.randn(16, 30, 8), loss=lambda y: y.square().mean())
    worst = next(f for f in report.findings if f.rule == "gradient_vanishing")
    assert "'cell' is one module that is called" in worst.cause and "orthogonal_" in worst.code


def test_stacked_attention_is_not_explained_without_a_look():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.MultiheadAttention(64, 4, batch_first=True) for _ in range(8)]
            self.layers = nn.ModuleList(layers)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x, x, x)[0]
            return x

    torch.manual_seed(0)
    for f in profile(Stack(), torch.randn(4, 16, 64)).findings:
        assert "the layers' weights alone do not do this" not in f.cause


def test_growth_by_constant_weights_is_blamed_on_them():
    torch.manual_seed(0)
    net = mlp(nn.ReLU, lambda w: nn.init.constant_(w, 0.1), 3)()
    grown = [f for f in profile(net, torch.randn(BATCH, WIDTH)).findings if f.rule == "explosion"]
    assert [f.follows for f in grown] == ["symmetric units in layers 0 to 2 ('0' to '4')"]
    assert "one number all over" in grown[0].cause
