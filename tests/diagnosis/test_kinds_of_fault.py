"""Faults at initialisation that people report, each beside a healthy twin: found, named, cured."""

import math

import pytest
import torch
from torch import nn

import initfast


class Function(nn.Module):
    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args):
        return self.function(self, *args)


def table(rows, width, std):
    made = nn.Embedding(rows, width)
    nn.init.normal_(made.weight, 0.0, std)
    return made


def positions(std):
    def run(self, ids):
        return self.head(self.tokens(ids) + self.positions(torch.arange(ids.shape[1])))

    return Function(run, tokens=table(50, 16, 0.02), positions=table(8, 16, std), head=heads())


def heads():
    return nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 50))


def codebook(std):
    def run(self, x):
        z = self.encoder(x)
        nearest = torch.cdist(z, self.codes.weight).argmin(-1)
        return self.decoder(z + (self.codes(nearest) - z).detach())

    return Function(
        run, encoder=nn.Linear(16, 8), codes=table(64, 8, std), decoder=nn.Linear(8, 16)
    )


def router(bias=0.0, std=0.02):
    made = Function(
        lambda self, x: sum(
            w * expert(x)
            for w, expert in zip(self.gate(x).softmax(-1).split(1, -1), self.experts, strict=True)
        ),
        gate=nn.Linear(16, 6),
        experts=nn.ModuleList(nn.Linear(16, 16) for _ in range(6)),
    )
    nn.init.normal_(made.gate.weight, 0.0, std)
    nn.init.zeros_(made.gate.bias)
    made.gate.bias.data[3] += bias
    return made


def attention(std):
    made = Function(
        lambda self, x: (self.q(x) @ self.k(x).mT / 4).softmax(-1) @ self.v(x),
        **{name: nn.Linear(64, 64, bias=False) for name in "qkv"},
    )
    for part in (made.q, made.k):
        nn.init.normal_(part.weight, 0.0, std)
    return made.half()


def neighbours(scale):
    links = scale * torch.ones(20, 20) + torch.eye(20)

    def run(self, x):
        for layer in self.layers:
            x = torch.relu(links @ layer(x))
        return x

    made = Function(run, layers=nn.ModuleList(nn.Linear(16, 16) for _ in range(8)))
    for layer in made.layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return made


def state_space(decay):
    def run(self, x):
        state = 0.0
        for given in x.unbind(1):
            state = decay * state + self.inward(given)
        return self.outward(state)

    return Function(run, inward=nn.Linear(4, 16), outward=nn.Linear(16, 4))


def cell(radius):
    def run(self, x):
        state = x.new_zeros(len(x), 16)
        for given in x.unbind(1):
            state = self.cell(given, state)
        return state

    made = Function(run, cell=nn.RNNCell(4, 16, nonlinearity="relu"))
    nn.init.orthogonal_(made.cell.weight_hh, radius)
    return made


def policy(log_std):
    made = Function(
        lambda self, x: (self.mean(x), self.log_std.exp()),
        mean=nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4)),
    )
    made.log_std = nn.Parameter(torch.full((4,), log_std))
    return made


def likelihood(output):
    mean, std = output
    return ((mean - 1) / std).square().mean() + std.log().mean()


def dropped(p):
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(p), nn.Linear(32, 4))


def far_feature():
    x = torch.randn(32, 16)
    x[:, 15] *= 3e4
    return x


def features(normed):
    norm = [nn.BatchNorm1d(16)] if normed else []
    return nn.Sequential(*norm, nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))


def ids():
    return torch.randint(50, (4, 8))


CASES = {
    "positions drown tokens": (
        *(lambda: positions(3.0), lambda: positions(0.02), ids, None),
        *("drowned_embedding", "positions", "same for every sample", True),
    ),
    "codes too far from the latents": (
        *(lambda: codebook(100.0), lambda: codebook(0.5), lambda: torch.randn(64, 16), None),
        *("constant_output", "codes", "same rows of 'codes'", True),
    ),
    "a router held by its bias": (
        *(lambda: router(bias=30.0), router, lambda: torch.randn(64, 16), None),
        *("attention_logits", "", "the bias of 'gate'", True),
    ),
    "attention in float16 whose logits pass for masked": (
        *(lambda: attention(4.0), lambda: attention(0.125)),
        *(lambda: torch.randn(4, 32, 64).half(), None),
        *("attention_logits", "", "the logits' std", None),
    ),
    "a sum over neighbours": (
        *(lambda: neighbours(1.0), lambda: neighbours(0.0), lambda: torch.randn(20, 16), None),
        *("explosion", "layers.0", "plain code between", True),
    ),
    "an unstable state": (
        *(lambda: state_space(1.9), lambda: state_space(0.9), lambda: torch.randn(8, 40, 4), None),
        *("explosion", "outward", "plain code gives it", True),
    ),
    "a cell that grows": (
        *(lambda: cell(2.5), lambda: cell(1.0), lambda: torch.randn(8, 30, 4), None),
        *("explosion", "cell", "the same weights", True),
    ),
    "a likelihood of next to no variance": (
        *(lambda: policy(-20.0), lambda: policy(-0.5), lambda: torch.randn(32, 8), likelihood),
        *("initial_loss", "", "", None),
    ),
    "dropout of everything": (
        *(lambda: dropped(1.0), lambda: dropped(0.1), lambda: torch.randn(32, 8), None),
        *("constant_output", "2", "a dropout of p = 1", True),
    ),
    "one feature in large units": (
        *(lambda: features(False), lambda: features(True), far_feature, None),
        *("input_scale", "0", "initialised for inputs of about 1", True),
    ),
}


def serious(report):
    return [f for f in report.findings if f.severity != "info"]


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_found_named_and_cured_and_its_twin_is_not(name):
    bad, good, x, loss, rule, first, cause, is_cured = CASES[name]
    torch.manual_seed(0)
    net, twin, given = bad(), good(), x()
    assert not serious(initfast.profile(twin, given, loss=loss))
    report = initfast.profile(net, given, loss=loss)
    found = next(f for f in serious(report) if f.rule == rule)
    assert cause in found.cause and (not first or found.names[0] == first or first in found.names)
    if is_cured:
        exec(found.code, {"net": net, "report": report, "initfast": initfast})
        assert rule not in [f.rule for f in serious(initfast.profile(net, given, loss=loss))]


def test_a_sentence_above_code_names_every_initialiser_of_it():
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(9) for m in (nn.Linear(64, 64), nn.ReLU())][:-1])
    for layer in net[::2]:
        nn.init.normal_(layer.weight, 0.0, 1e-3)
    nn.init.kaiming_normal_(net[8].weight, nonlinearity="relu")
    (finding,) = [f for f in serious(initfast.profile(net, torch.randn(32, 64))) if f.code]
    relu = 'kaiming_normal_(nonlinearity="relu") on layers 0 to 8'
    assert finding.advice == f"use {relu}, but lecun_normal_() on layer 8"
    assert "no known initialiser on 8 of 9 layers" in finding.cause
    assert math.prod(map(finding.code.count, ("kaiming_normal_", "lecun_normal_"))) == 1


def test_a_fixed_point_forgets_where_it_began_and_an_exploding_one_is_redrawn():
    def run(self, x):
        z = torch.zeros_like(x)
        for _ in range(20):
            z = torch.relu(self.w(z) + self.u(x))
        return z

    for gain in (0.5, 2.5):
        torch.manual_seed(0)
        net, x = Function(run, w=nn.Linear(32, 32, bias=False), u=nn.Linear(32, 32)), None
        nn.init.normal_(net.w.weight, 0.0, gain / 32**0.5)
        x = torch.randn(16, 32)
        report = initfast.profile(net, x, loss=lambda y: y.square().mean())
        if gain < 1:
            assert not serious(report)
            continue
        found = next(f for f in serious(report) if f.rule == "explosion")
        assert f"fan_in × Var(w) is {report['w'].weight.scale:.3g}" in found.cause
        exec(found.code, {"net": net, "report": report, "initfast": initfast})
        assert not serious(initfast.profile(net, x, loss=lambda y: y.square().mean()))


def test_a_router_without_a_bias_is_held_by_the_mean_of_its_input():
    torch.manual_seed(0)
    net = Function(
        lambda self, x: self.e(x) * self.r(x).softmax(-1)[..., :1],
        r=nn.Linear(64, 6, bias=False),
        e=nn.Linear(64, 64),
    )
    net.r.weight.data[0] = 1.0
    x = torch.randn(256, 64).abs()
    report = initfast.profile(net, x)
    found = next(f for f in serious(report) if f.rule == "attention_logits")
    assert "bias" not in found.cause and "the mean of its input, 0.8" in found.cause
    exec(found.code, {"net": net, "report": report, "initfast": initfast})
    assert not serious(initfast.profile(net, x))
