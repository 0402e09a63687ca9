"""After initialize_() by any scheme an audit finds no fault, and that the scheme fits."""

import pytest
import torch
from cases import small_nets
from cases.switches import times
from torch import nn
from torch.nn import functional

import initfast
from initfast.repair.schemes import SCHEMES


class Functions(nn.Module):
    """What follows a layer is a function, which no module shows."""

    def __init__(self, first, second, width=64):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, width), nn.Linear(width, width), nn.Linear(width, 4)
        self.acts = first, second

    def forward(self, x):
        first, second = self.acts
        return self.c(second(self.b(first(self.a(x)))))


class Sine(nn.Module):
    def __init__(self, omega=30.0):
        super().__init__()
        self.omega = omega

    def forward(self, x):
        return torch.sin(self.omega * x)


class SineLayer(nn.Module):
    def __init__(self, inputs, outputs, omega=30.0):
        super().__init__()
        self.linear, self.omega_0 = nn.Linear(inputs, outputs), omega

    def forward(self, x):
        return torch.sin(self.omega_0 * self.linear(x))


def chain(*pairs):
    return nn.Sequential(*[layer for pair in pairs for layer in pair])


KINDS = {
    "linear": lambda: (
        chain((nn.Linear(16, 64), nn.GELU()), (nn.Linear(64, 64), nn.Sigmoid())),
        torch.randn(8, 16),
    ),
    "functions": lambda: (Functions(functional.gelu, torch.relu), torch.randn(8, 16)),
    "sines": lambda: (
        chain((nn.Linear(2, 64), Sine()), (nn.Linear(64, 64), Sine()), (nn.Linear(64, 1),)),
        torch.rand(64, 2),
    ),
    "convolutions": lambda: (
        chain(
            (nn.Conv2d(3, 32, 3), nn.ReLU()),
            (nn.Conv2d(32, 64, 3, groups=4), nn.ReLU(), nn.Conv2d(64, 64, 3, groups=64)),
            (nn.BatchNorm2d(64), nn.SiLU()),
        ),
        torch.randn(2, 3, 9, 9),
    ),
    "transposed": lambda: (
        chain(
            (nn.ConvTranspose2d(16, 64, 4, 2, 1), nn.ReLU()),
            (nn.ConvTranspose2d(64, 8, 4, 2, 1, groups=2), nn.Tanh()),
        ),
        torch.randn(2, 16, 4, 4),
    ),
    "recurrent": lambda: (nn.LSTM(16, 32), torch.randn(5, 2, 16)),
    "attention": lambda: (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2),
        torch.randn(2, 5, 32),
    ),
    "tied": lambda: (small_nets.Decoder(tied=True), torch.randint(80, (2, 8))),
    "residual": lambda: (small_nets.ResNet(norms=False), torch.randn(2, 3, 8, 8)),
}
NAMES = [name for i, name in enumerate(SCHEMES) if times(1) > 1 or name == "auto" or i % 9 == 3]


@pytest.mark.parametrize("with_x", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_audit_finds_no_fault_and_the_scheme(kind, with_x):
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        net, x = KINDS[kind]()
        try:
            initfast.initialize_(net, x if with_x else None, scheme=name, seed=seed)
        except ValueError:  # the scheme is for other nets
            continue
        found = initfast.audit(net)
        assert [str(f) for f in found.findings if f.severity != "info"] == [], name
        assert name in found.schemes, name


@pytest.mark.parametrize("scheme", ["torchtitan", "olmo_core_llama"])
def test_what_a_scheme_does_on_purpose_is_worth_knowing_only(scheme):
    """Both scale one factor of a gated part by depth and not the other."""
    net = small_nets.Decoder()
    initfast.initialize_(net, scheme=scheme, seed=0)
    (found,) = [f for f in initfast.audit(net).findings if f.rule == "depth_scale"]
    assert found.severity == "info" and f"scheme {scheme!r} has it so" in found.measured
    nn.init.normal_(net.tok_embeddings.weight, std=0.3)
    assert "warning" in [f.severity for f in initfast.audit(net).findings]


@pytest.mark.parametrize("omega", [1.0, 10.0, 30.0])
@pytest.mark.parametrize("written", ["modules", "layers", "functions", "in place"])
def test_layers_before_sines_are_drawn_as_in_a_siren(written, omega):
    sine = Sine(omega)
    net = {
        "modules": lambda: chain(
            (nn.Linear(16, 64), sine), (nn.Linear(64, 64), sine), (nn.Linear(64, 4),)
        ),
        "layers": lambda: nn.Sequential(
            SineLayer(16, 64, omega), SineLayer(64, 64, omega), nn.Linear(64, 4)
        ),
        "functions": lambda: Functions(sine.forward, sine.forward),
        "in place": lambda: Functions(lambda z: (z * omega).sin_(), lambda z: z.mul(omega).sin_()),
    }[written]()
    x = torch.rand(256, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    done = initfast.initialize_(net, x, seed=0)
    weights = [change.std for change in done.changes if change.name.endswith("weight")]
    assert weights == pytest.approx([1 / 16 / 3**0.5, *[(2 / 64) ** 0.5 / omega] * 2], rel=1e-4)
    if written in ("modules", "layers"):
        assert stds(initfast.initialize_(net, seed=0)) == pytest.approx(stds(done), rel=1e-4)


def stds(done):
    return [change.std for change in done.changes]


def test_sines_of_something_else_are_none():
    """Of positions, as in a rotary embedding; of a tensor as large as an output by chance."""

    class Rotary(Functions):
        def forward(self, x):
            return super().forward(x) * torch.sin(torch.arange(4.0) / 10)

    net, x = Rotary(torch.tanh, torch.tanh), torch.randn(1, 16)
    done = initfast.initialize_(net, x, seed=0)
    assert [change.why for change in done.changes if "sines" in change.why] == []


def test_a_head_behind_another_activation_is_no_sirens():
    """Where a sine follows one branch only, here of the time."""

    class Timed(nn.Module):
        def __init__(self):
            super().__init__()
            self.time, self.body, self.head = nn.Linear(1, 64), nn.Linear(16, 64), nn.Linear(64, 4)

        def forward(self, x):
            return self.head(torch.relu(self.body(x)) + torch.sin(30 * self.time(x[:, :1])))

    done = initfast.initialize_(Timed(), torch.randn(64, 16), seed=0)
    by_sines = [change.name for change in done.changes if "sines" in change.why]
    assert "time.weight" in by_sines and "head.weight" not in by_sines


def test_sines_within_a_transform_are_left_alone():
    net = chain((nn.Linear(2, 32), Sine()), (nn.Linear(32, 1), nn.Identity()))

    class Equation(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return torch.func.vmap(torch.func.grad(lambda p: self.net(p).sum()))(x)

    assert initfast.initialize_(Equation(), torch.randn(8, 2), seed=0).changes


def test_modules_called_like_sines_are_asked_without_hooks_and_may_refuse():
    class Sinus(nn.Module):
        def forward(self, x):
            assert x.dim() == 2
            return torch.sin(x)

    net, seen = nn.Sequential(nn.Linear(4, 8), Sinus(), nn.Linear(8, 1)), []
    net[1].register_forward_hook(lambda *args: seen.append(args))
    assert initfast.audit(net).findings == [] and seen == []


@pytest.mark.parametrize("net", [nn.LSTM(8, 8), nn.Bilinear(4, 4, 4)])
def test_a_scheme_that_says_nothing_of_any_weight_is_refused(net):
    for name in SCHEMES:
        try:
            done = initfast.initialize_(net, scheme=name, seed=0)
        except ValueError as error:
            assert f"scheme {name!r} is for" in str(error)
            continue
        assert any("weight" in change.name for change in done.changes), name
    with pytest.raises(ValueError, match="says nothing of any weight of this net, as weight_ih_l0"):
        initfast.initialize_(nn.LSTM(8, 8), scheme="mup")


def generator():
    return chain(
        (nn.ConvTranspose2d(16, 64, 4, 2, 1), nn.ReLU()),
        (nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()),
        (nn.ConvTranspose2d(32, 16, 4, 2, 1, groups=4), nn.ReLU()),
        (nn.Conv2d(16, 8, 3, groups=4), nn.Tanh()),
    )


@pytest.mark.parametrize("scheme", ["auto", "torch", "flax", "keras", "spectral"])
def test_transposed_convolutions_are_drawn_by_what_is_known(scheme):
    net, x = generator(), torch.randn(8, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    initfast.initialize_(net, x, scheme=scheme, seed=0)
    report = initfast.profile(net, x)
    assert "weight_scale" not in [finding.rule for finding in report.findings]
    if scheme == "auto":  # each output sums fan_in over the stride's square products
        assert 0.6 < report["4"].std / report["0"].std < 1.4
    if scheme != "spectral":
        laws = [one.law for one in initfast.audit(net) if one.name.endswith("weight")]
        assert all(laws), laws
