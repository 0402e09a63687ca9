"""audit(): what it says of nets that are well, and of every kind of fault, injected."""

import itertools
import math

import pytest
import torch
from repair.small_transformers import Decoder, mlp
from torch import nn

import initfast
from initfast.repair.auditing import audit


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def serious(net):
    return [f for f in audit(net).findings if f.severity != "info"]


def named(net):
    return [(f.rule, f.names[0]) for f in serious(net)]


# ---- each kind of fault, and the same net without it ----


def fill_with(value):
    def inject(net):
        with torch.no_grad():
            net[4].weight.view(-1)[7] = value

    return inject


def repeat_a_unit(net):
    with torch.no_grad():
        net[4].weight[3] = net[4].weight[9]


def constant_unit(net):
    with torch.no_grad():
        net[4].weight[3] = 0.25


def copy_a_layer(net):
    net[4].load_state_dict(net[8].state_dict())


FAULTS_OF_VALUES = {
    "nan": (fill_with(math.nan), "unfilled_memory"),
    "inf": (fill_with(math.inf), "unfilled_memory"),
    "denormal": (fill_with(1e-42), "unfilled_memory"),
    "huge": (fill_with(1e20), "unfilled_memory"),
    "constant": (lambda net: nn.init.constant_(net[4].weight, 0.1), "symmetric_units"),
    "constant unit": (constant_unit, "symmetric_units"),
    "repeated unit": (repeat_a_unit, "symmetric_units"),
    "copied": (copy_a_layer, "same_bits"),
    "other std": (lambda net: nn.init.normal_(net[4].weight, std=0.02), "off_scheme"),
    "zero": (lambda net: nn.init.zeros_(net[4].weight), "zero_weight"),
}


@pytest.mark.parametrize("name", FAULTS_OF_VALUES)
def test_a_fault_in_one_layer_is_named(name):
    inject, rule = FAULTS_OF_VALUES[name]
    net = mlp()
    assert serious(net) == []
    inject(net)
    assert named(net) == [(rule, "4.weight")]


class Chain(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(n, 32, bias=bias) for n in (16, 32, 32))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("make", [lambda: mlp(3), Chain, lambda: nn.LSTM(16, 16)])
def test_each_weight_of_a_net_that_is_one_constant_is_named(make, value):
    net = make()
    names = [name for name, p in net.named_parameters() if "weight" in name]
    for name in names:
        nn.init.constant_(net.get_parameter(name), value)
    assert named(net) == [("symmetric_units" if value else "zero_weight", n) for n in names]


@pytest.mark.parametrize("place", [0, 1])
def test_a_hidden_layer_of_zeros_is_named_and_a_last_one_is_not(place):
    net, last = (nn.Sequential(*[nn.Linear(32, 32) for _ in range(3)]) for _ in range(2))
    nn.init.zeros_(net[place].weight)
    nn.init.zeros_(last[-1].weight)
    assert named(net) == [("zero_weight", f"{place}.weight")]
    assert not serious(last)
    exec(serious(net)[0].code, {"net": net, "initfast": initfast})
    assert not serious(net)


class Skipping(nn.Linear):
    """A layer whose input goes on beside what it makes."""

    def forward(self, x):
        return x + super().forward(x)


class Branches(nn.Module):
    """Two branches of two layers of one width."""

    def __init__(self):
        super().__init__()
        self.a1, self.a2, self.b1, self.b2 = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x):
        x = x + self.a2(torch.relu(self.a1(x)))
        return x + self.b2(torch.relu(self.b1(x)))


def test_residual_branches_may_start_at_zero():
    net = Branches()
    nn.init.zeros_(net.a2.weight)
    nn.init.zeros_(net.b2.weight)
    skipping = nn.Sequential(Skipping(32, 32), nn.ReLU(), nn.Linear(32, 32))
    nn.init.zeros_(skipping[0].weight)
    fixup = nn.Sequential(*[Branches() for _ in range(2)])
    initfast.initialize_(fixup, torch.randn(4, 32), scheme="fixup")
    for each in (net, skipping, fixup):
        assert "zero_weight" not in {f.rule for f in serious(each)}


def test_zeros_that_nets_start_with_on_purpose():
    """A query of muP's, the last norm of a branch, a head, the second factor of LoRA."""
    net = Decoder()
    for layer in net.layers:
        nn.init.zeros_(layer.attention.wq.weight)
        nn.init.zeros_(layer.feed_forward.w2.weight)
        nn.init.zeros_(layer.norm.weight)
    lora = nn.Sequential(nn.Linear(64, 4, bias=False), nn.Linear(4, 64, bias=False))
    nn.init.zeros_(lora[1].weight)
    assert not serious(net) and not serious(lora)


def test_a_fault_in_a_layer_of_its_own_shape_is_named():
    sizes = [32, 64, 128, 96, 160, 64]
    net = nn.Sequential(*[nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])
    for layer in net:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert serious(net) == []
    nn.init.normal_(net[2].weight)
    (finding,) = serious(net)
    assert finding.rule == "off_scheme" and finding.names[0] == "2.weight"
    assert 'kaiming_normal_(nonlinearity="relu")' in finding.measured


def test_units_that_begin_alike_but_differ_are_none():
    net = mlp(1)
    with torch.no_grad():
        net[0].weight[:32, :8] = net[0].weight[40, :8]
    assert serious(net) == []
    with torch.no_grad():
        net[0].weight[[50, 51]] = net[0].weight[[60, 61]]
    (finding,) = serious(net)
    assert "2 of 64 units repeat another" in finding.measured


def test_copies_of_a_module_are_one_finding():
    layer = nn.TransformerEncoderLayer(32, 4, batch_first=True)
    assert serious(layer) == []
    net = nn.TransformerEncoder(layer, 3)
    (finding,) = serious(net)
    assert finding.rule == "same_bits" and finding.value == 3
    exec(finding.code, {"net": net, "initfast": initfast})
    assert serious(net) == []


def test_a_frozen_copy_is_none():
    """A target network, a momentum encoder: a copy on purpose."""
    net = nn.ModuleDict({"online": mlp(2), "target": mlp(2).requires_grad_(False)})
    net["target"].load_state_dict(net["online"].state_dict())
    assert serious(net) == []


def test_a_padding_row_that_is_not_zero():
    net = nn.Embedding(100, 32, padding_idx=3)
    assert serious(net) == []
    nn.init.normal_(net.weight, std=0.02)
    (finding,) = serious(net)
    assert finding.rule == "padding_row" and "row 3" in finding.measured
    exec(finding.code, {"net": net, "torch": torch})
    assert serious(net) == []


def test_a_norm_drawn_as_a_matrix():
    net = nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32))
    nn.init.normal_(net[1].weight, 1.0, 0.02)
    assert serious(net) == []
    nn.init.normal_(net[1].weight, 0.0, 0.02)
    assert named(net) == [("norm_like_a_matrix", "1.weight")]


def test_one_block_that_was_not_scaled_by_depth():
    outputs = "attention.wo", "feed_forward.w2"
    net = Decoder().scaled(*outputs)
    assert serious(net) == []
    nn.init.normal_(net.layers[3].attention.wo.weight, std=0.02)
    assert named(net) == [("off_scheme", "layers.3.attention.wo.weight")]


def test_a_depth_scale_on_one_of_two_like_matrices():
    assert serious(Decoder()) == []
    (gate,) = serious(Decoder().scaled("attention.wo", "feed_forward.w2", "feed_forward.w3"))
    assert gate.rule == "depth_scale" and gate.names[1] == "layers.5.feed_forward.w3.weight"
    (output,) = serious(Decoder().scaled("feed_forward.w2"))
    assert output.rule == "depth_scale" and "residual stream" in output.cause


class Fused(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)


class Convolutions(nn.Module):
    def __init__(self, normed=False):
        super().__init__()
        self.stem, self.a = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 128, 3)
        self.grouped = nn.Conv2d(128, 128, 3, groups=16)
        self.norm = nn.BatchNorm2d(128) if normed else nn.Identity()
        self.transposed = nn.ConvTranspose2d(128, 16, 4, stride=2)
        self.last = nn.Conv2d(16, 32, 3)
        for layer in self.children():
            if hasattr(layer, "kernel_size"):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def test_a_fused_weight_drawn_by_the_fan_of_its_shape():
    net = Fused()
    assert named(net) == [("wrong_fan", "qkv.weight")]
    for part in net.qkv.weight.chunk(3):
        nn.init.xavier_uniform_(part)
    assert serious(net) == []


def test_grouped_and_transposed_weights_drawn_by_the_fan_of_their_shape():
    net = Convolutions()
    assert named(net) == [("wrong_fan", "grouped.weight"), ("wrong_fan", "transposed.weight")]
    assert named(Convolutions(normed=True)) == [("wrong_fan", "transposed.weight")]
    draw = initfast.init.kaiming_normal_
    draw(net.grouped.weight, mode="fan_out", nonlinearity="relu", groups=16)
    draw(net.transposed.weight, mode="fan_out", nonlinearity="relu", transposed=True)
    assert serious(net) == []


@pytest.mark.parametrize(
    "draw",
    [
        lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
        nn.init.xavier_uniform_,
        nn.init.normal_,
    ],
)
def test_a_tied_head_drawn_as_a_head(draw):
    net = Decoder()
    draw(net.lm_head.weight)
    assert named(net) == [("tied_scale", "embedding.weight")]


def test_a_head_that_should_be_tied_and_is_not():
    net = Decoder(tied=False)
    net.config = type("Config", (), {"tie_word_embeddings": True})
    assert serious(net) == []
    nn.init.normal_(net.lm_head.weight, std=0.125)
    assert [f.rule for f in serious(net)] == ["tied_scale"]
