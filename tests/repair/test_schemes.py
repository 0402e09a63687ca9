"""Each scheme draws each kind of parameter as its formula says, written here by hand."""

import math

import pytest
import torch
from cases.small_nets import Decoder, ResNet
from torch import nn

import initfast
from initfast.repair.schemes import SCHEMES, DoesNotFit
from initfast.repair.schemes.law import packed, truncated, uniform
from initfast.repair.slots import slots

D, FF, N = 64, 96, 3
CUT3, CUT2 = 0.98657839255810862, 0.87962566103423975
ROOT = D**-0.5


def _glorot(fan_in, fan_out):
    return math.sqrt(2 / (fan_in + fan_out))


# embedding, query, gate (w1), up (w3), attention's out, w2 (both of block l), head
TRANSFORMERS = {
    "gpt2": (0.02, 0.02, 0.02, 0.02, *[lambda i: 0.02 / math.sqrt(2 * N)] * 2, 0.02),
    "hf": (0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02),
    "t5": (1.0, (D * 16) ** -0.5, ROOT, ROOT, ROOT, FF**-0.5, 1.0),
    "megatron": (0.02, 0.02, 0.02, 0.02, *[lambda i: 0.02 / math.sqrt(2 * N)] * 2, 0.02),
    "megatron_mup": (0.02, 0.04, 0.04, 0.04, *[lambda i: 0.04 / math.sqrt(2 * N)] * 2, 0.04),
    "olmo_normal": (0.02,) * 7,
    "olmo_mitchell": (
        *[ROOT * CUT3] * 4,
        lambda i: CUT3 / math.sqrt(2 * D * (i + 1)),
        lambda i: CUT3 / math.sqrt(2 * FF * (i + 1)),
        ROOT * CUT3,
    ),
    "llama2": (*[0.02 * CUT3] * 4, *[0.02 * CUT3 / math.sqrt(2 * N)] * 2, ROOT * CUT3),
    "olmo_core": (0.02 * CUT3,) * 7,
    "olmo_core_llama": (
        *(1.0, 0.02 * CUT3, 0.02 * CUT3),
        *[0.02 * CUT3 / math.sqrt(2 * N)] * 3,
        ROOT * CUT3,
    ),
    "olmo_core_llama_depth": (
        *(1.0, 0.02 * CUT3, 0.02 * CUT3),
        *[lambda i: 0.02 * CUT3 / math.sqrt(2 * (i + 1))] * 3,
        ROOT * CUT3,
    ),
    "olmo_core_normalized": (
        *(ROOT, ROOT * CUT3, ROOT * CUT3, ROOT * CUT3),
        *[ROOT * CUT3 / math.sqrt(2 * N)] * 2,
        ROOT * CUT3,
    ),
    "olmo_core_fan_in": (1.0, *[ROOT * CUT3] * 4, FF**-0.5 * CUT3, ROOT * CUT3),
    "torchtitan": (
        *(1.0, 0.02, 0.02),
        *[lambda i: 0.02 / math.sqrt(2 * (i + 1))] * 3,
        ROOT * CUT3,
    ),
    "lingua": (
        *[ROOT * CUT3] * 4,
        lambda i: CUT3 * D**-0.5 / math.sqrt(2 * (i + 1)),
        lambda i: CUT3 * FF**-0.5 / math.sqrt(2 * (i + 1)),
        ROOT * CUT3,
    ),
    "small_init": (math.sqrt(2 / (5 * D)),) * 7,
    "wang": (*[math.sqrt(2 / (5 * D))] * 4, *[2 / (N * math.sqrt(D))] * 2, math.sqrt(2 / (5 * D))),
    "nanotron": (0.02, 0.02, 0.02, 0.02, *[0.02 / math.sqrt(2 * N)] * 2, 0.02),
    "nanochat": (0.8, ROOT, ROOT, ROOT, 0.0, 0.0, 0.001),
    "modded_nanogpt": (0.005, ROOT / 2, ROOT / 2, ROOT / 2, ROOT / 2, 0.0, 0.005),
    "timm_vit": (0.02,) * 7,
    "timm_vit_fixed": (*[0.02] * 4, *[lambda i: 0.02 / math.sqrt(2 * (i + 1))] * 2, 0.02),
    "timm_jax": (0.02, ROOT, *[_glorot(D, FF)] * 2, ROOT, _glorot(D, FF), 0.0),
    "timm_moco": (0.02, ROOT, *[_glorot(D, FF)] * 2, ROOT, _glorot(D, FF), _glorot(D, 80)),
    "torch": (1.0, *[(3 * D) ** -0.5] * 4, (3 * FF) ** -0.5, (3 * D) ** -0.5),
    "keras": (0.05 / 3**0.5, ROOT, *[_glorot(D, FF)] * 2, ROOT, _glorot(D, FF), _glorot(D, 80)),
    "flax": (ROOT, *[ROOT] * 4, FF**-0.5, ROOT),
    "mup": (1.0, *[ROOT] * 4, FF**-0.5, 1 / D),
    "spectral": (1.0, *[ROOT] * 4, FF**-0.5 * math.sqrt(D / FF), ROOT),
    "deepnorm": (
        *(ROOT, ROOT, *[_glorot(D, FF) / (8 * N) ** 0.25] * 2),
        *(ROOT / (8 * N) ** 0.25, _glorot(D, FF) / (8 * N) ** 0.25, _glorot(D, 80)),
    ),
    "sub_ln": (
        *(ROOT, ROOT, *[_glorot(D, FF) * math.sqrt(math.log(2 * N))] * 2),
        ROOT * math.sqrt(math.log(2 * N)),
        *(_glorot(D, FF) * math.sqrt(math.log(2 * N)), _glorot(D, 80)),
    ),
    "auto": (
        *(1.0, ROOT, math.sqrt(1 / 0.355775519817352) * ROOT, ROOT),
        *((D * 2 * N) ** -0.5, (FF * 2 * N) ** -0.5, 1 / D),
    ),
}
TRANSFORMERS["open_lm"] = TRANSFORMERS["lingua"]
TRANSFORMERS["llm_foundry"] = TRANSFORMERS["wang"]
CONVOLUTIONAL = {"resnet", "efficientnet", "convnext", "mixer", "nfnet"}
WITHOUT_NORMS = {"fixup", "t_fixup", "siren"}


def assert_std(tensor, expected):
    """Within four standard errors, as the kurtosis of what was drawn makes them."""
    x = tensor.detach().double().flatten()
    if expected == 0:
        assert (x == 0).all()
        return
    kurtosis = (x**4).mean() / (x**2).mean() ** 2
    error = expected * math.sqrt((kurtosis - 1) / (4 * len(x)))
    assert abs((x**2).mean().sqrt() - expected) < 4 * error, (expected, x.std().item())


def test_every_scheme_is_tested():
    assert {*TRANSFORMERS, *CONVOLUTIONAL, *WITHOUT_NORMS} == set(SCHEMES)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_of_transformers(name):
    net = Decoder(D, FF, N)
    tokens = torch.randint(80, (2, 16))
    initfast.initialize_(net, tokens if name == "auto" else None, scheme=name, seed=1)
    table, query, gate, up, attention, out, head = TRANSFORMERS[name]
    assert (net.tok_embeddings.weight[0] == 0).all()
    assert_std(net.tok_embeddings.weight[1:], table)
    assert_std(net.lm_head.weight, head)
    for i, layer in enumerate(net.layers):
        feed = layer.feed_forward
        pairs = ((layer.attention.q_proj, query), (feed.w1, gate), (feed.w3, up))
        for module, std in (*pairs, (layer.attention.o_proj, attention), (feed.w2, out)):
            assert_std(module.weight, std(i) if callable(std) else std)
        assert (layer.norm1.weight == 1).all() and (layer.norm1.bias == 0).all()


def test_resnet_begins_each_branch_at_zero():
    net = ResNet()
    initfast.initialize_(net, torch.randn(2, 3, 8, 8), scheme="resnet", seed=2)
    assert_std(net.stem.weight, math.sqrt(2 / (32 * 9)))
    for block in net.blocks:
        assert_std(block.conv1.weight, math.sqrt(2 / (32 * 9)))
        assert_std(block.conv2.weight, math.sqrt(2 / (32 * 9)))
        assert (block.norm1.weight == 1).all() and (block.norm2.weight == 0).all()
    assert_std(net.fc.weight, (3 * 32) ** -0.5)


@pytest.mark.parametrize(
    ("name", "dense", "grouped", "head"),
    [
        ("efficientnet", (2 / 288) ** 0.5, (2 / 72) ** 0.5, (3 * 10) ** -0.5),
        ("convnext", 0.02, 0.02, 0.02),
        ("mixer", 288**-0.5, 72**-0.5, 0.0),
        ("auto", 288**-0.5, 72**-0.5, 1 / 32),
        ("torch", (3 * 288) ** -0.5, (3 * 72) ** -0.5, (3 * 32) ** -0.5),
    ],
)
def test_of_convolutions(name, dense, grouped, head):
    net = ResNet()
    initfast.initialize_(net, torch.randn(2, 3, 8, 8), scheme=name, seed=3)
    for block in net.blocks:
        assert_std(block.conv1.weight, dense)
        assert_std(block.conv2.weight, grouped)
    assert_std(net.fc.weight, head)


def test_without_norms():
    net, x = ResNet(n=5, norms=False), torch.randn(2, 3, 8, 8)
    initfast.initialize_(net, x, scheme="fixup", seed=4)
    for block in net.blocks:  # five branches of two layers
        assert_std(block.conv1.weight, math.sqrt(2 / 288) * 5**-0.5)
        assert (block.conv2.weight == 0).all()
    assert (net.fc.weight == 0).all()
    initfast.initialize_(net, x, scheme="nfnet", seed=4)
    assert_std(net.blocks[0].conv2.weight, 72**-0.5)
    initfast.initialize_(net, x, seed=4)  # the last layer of each branch by the branches' number
    assert_std(net.blocks[0].conv1.weight, math.sqrt(2 / 288))
    assert_std(net.blocks[0].conv2.weight, (72 * 5) ** -0.5)


def test_t_fixup():
    net = Decoder(D, FF, N, norms=False, gated=False)
    initfast.initialize_(net, scheme="t_fixup", seed=5)
    factor = 0.67 * N**-0.25
    assert_std(net.tok_embeddings.weight[1:], ROOT * (9 * N) ** -0.25)
    for layer in net.layers:
        assert_std(layer.attention.q_proj.weight, ROOT / math.sqrt(2))
        assert_std(layer.attention.v_proj.weight, ROOT * factor)
        assert_std(layer.attention.o_proj.weight, ROOT * factor)
        assert_std(layer.feed_forward.fc1.weight, _glorot(D, FF) * factor)
    packed_net = nn.TransformerDecoder(nn.TransformerDecoderLayer(D, 4, FF), 2)
    with pytest.raises(DoesNotFit, match="this net has norms"):
        initfast.initialize_(packed_net, scheme="t_fixup")


def test_deepnorm_of_a_packed_weight_and_of_two_stacks():
    net = nn.Transformer(D, 4, 2, 4, FF, batch_first=True)
    initfast.initialize_(net, scheme="deepnorm", seed=6)
    query, key, value = net.encoder.layers[0].self_attn.in_proj_weight.chunk(3)
    assert_std(query, ROOT)
    assert_std(key, ROOT)
    assert_std(value, ROOT / ((2**4 * 4) ** (1 / 16) / 1.15))
    assert_std(net.decoder.layers[3].linear2.weight, _glorot(D, FF) / (12 * 4) ** 0.25)


def test_siren():
    net = nn.Sequential(nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 3))
    initfast.initialize_(net, scheme="siren", seed=7)
    assert_std(net[0].weight, 1 / 32 / math.sqrt(3))
    assert_std(net[1].weight, math.sqrt(6 / 64) / 30 / math.sqrt(3))


@pytest.mark.parametrize(
    ("name", "net", "reason"),
    [
        ("gpt2", ResNet(), "for transformers; this net has no repeated blocks with attention"),
        ("resnet", Decoder(), "this net has no convolutions"),
        ("resnet", ResNet(norms=False), "this net has no norms"),
        ("nfnet", ResNet(), "this net has norms"),
        ("fixup", nn.Linear(3, 3), "no residual branch"),
        ("siren", ResNet(), "this net has convolutions"),
    ],
)
def test_a_scheme_says_which_nets_it_does_not_fit(name, net, reason):
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(DoesNotFit, match=reason):
        initfast.initialize_(net, scheme=name)
    assert all(map(torch.equal, before, net.parameters()))


def test_laws_know_their_std_and_kurtosis():
    w = initfast.init.trunc_normal_(torch.empty(10**6), 0, 3.0, -1.5, 1.5, in_sigma=True, key=1)
    law = truncated(3.0, 1.5)
    assert_std(w, law.std())
    k = ((w**4).mean() / (w**2).mean() ** 2).item()
    assert abs(k - law.kurtosis) < 0.02
    assert abs(truncated(1.0, 2.0).kurtosis - 2.36553671713) < 1e-9
    assert packed(uniform(3.0), uniform(4.0)).std() == math.sqrt(12.5)


def test_a_scheme_tells_the_std_without_drawing():
    roles = {name: place.role for name, place in slots(Decoder(D, FF, N)).items()}
    role = roles["layers.2.feed_forward.w3.weight"]
    assert SCHEMES["torchtitan"].std(role) == pytest.approx(0.02 / math.sqrt(6), rel=1e-12)
    assert SCHEMES["gpt2"].std(roles["norm.weight"]) == 0.0
