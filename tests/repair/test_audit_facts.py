"""audit(): what it tells of every net, right or wrong."""

import json
import math

import pytest
import torch
from repair.small_transformers import Decoder, mlp
from torch import nn

from initfast.repair.auditing import audit


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def serious(net):
    return [f for f in audit(net).findings if f.severity != "info"]


def test_schemes_that_fit():
    assert audit(mlp()).schemes == ("torch",)
    assert audit(Decoder()).schemes == ("hf", "olmo_normal", "timm_vit")
    found = audit(Decoder().scaled("attention.wo"))
    assert found.schemes == () and "gpt2" in found.schemes_by_kind["embedding"]
    net = Decoder()
    for name, w in net.named_parameters():
        if name.endswith(("wo.weight", "w2.weight")):
            nn.init.normal_(w, std=0.02 / math.sqrt(12))
    assert audit(net).schemes == ("gpt2", "megatron", "nanotron")


def test_torchtitans_llama3_is_told_as_it_is():
    net = Decoder(tied=False).scaled("attention.wo", "feed_forward.w2", "feed_forward.w3")
    net.positions = None
    nn.init.normal_(net.embedding.weight)
    s = 64**-0.5
    nn.init.trunc_normal_(net.lm_head.weight, std=s, a=-3 * s, b=3 * s)
    nn.init.trunc_normal_(net.layers[0].attention.wq.weight, std=0.02)
    found = audit(net)
    assert found.schemes == ("torchtitan",)
    assert "cut at 3 sigma" in str(found["lm_head.weight"].family)
    assert "never cut" in str(found["layers.0.attention.wq.weight"].family)
    text = " ".join(str(found).split())
    assert text.count("scaled by 1/√(2 (l + 1))") == 2
    assert "w1 has std 0.0" in text and "w3 0.01" in text


def test_what_is_always_told():
    net = Decoder()
    nn.init.zeros_(net.layers[5].norm.weight)
    found = audit(net)
    assert found["embedding.weight"].tied == ("lm_head.weight",)
    assert found["lm_head.weight"] is found["embedding.weight"]
    text = " ".join(str(found).split())
    assert "Tied: 'embedding.weight', 'lm_head.weight' are one tensor." in text
    assert "not scaled by depth" in text and "Starts at zero: 'layers.#.norm.weight'." in text
    assert all(len(line) <= 100 for line in str(found).splitlines())
    with pytest.raises(KeyError, match="no parameter is named 'nothing'"):
        _ = found["nothing"]


def test_a_memory_that_is_shared_is_tied():
    net = nn.ModuleList([nn.Linear(9, 9), nn.Linear(9, 9)])
    net[1].weight.data = net[0].weight.data
    assert audit(net)["1.weight"].name == "0.weight"
    assert serious(net) == []


def test_as_json():
    net = mlp(2)
    net[0].weight.data[0, 0] = math.nan
    found = audit(net)
    plain = json.loads(found.to_json())
    assert [f["name"] for f in plain["facts"]] == [n for n, _ in net.named_parameters()]
    assert plain["findings"][0]["rule"] == "unfilled_memory"
    assert plain["facts"][0]["family"]["name"] == found.facts[0].family.name
    assert len(found) == 4 and found._repr_html_().startswith("<pre>#.weight")


def test_names_as_a_terminal_may_show_them():
    net = nn.Module()
    net.register_parameter("a\x1b[31m", nn.Parameter(torch.randn(30)))
    assert "\x1b" not in str(audit(net))


def test_nothing_is_changed():
    net = Decoder()
    state, versions = torch.get_rng_state(), [p._version for p in net.parameters()]
    audit(net)
    assert torch.equal(state, torch.get_rng_state()) and net.training
    assert versions == [p._version for p in net.parameters()]
    assert all(p.grad is None for p in net.parameters())
