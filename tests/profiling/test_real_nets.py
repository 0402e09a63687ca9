"""profile() of torchvision's and transformers' nets, with random weights; transformers patched.

They run where the libraries are installed. INITFAST_REAL_NETS=1 says that they are: a missing one
then fails.
"""

import importlib
import os

import pytest
import torch
from cases.any_net import faithful

from initfast import init
from initfast.profiling.profile import profile


def library(name):
    if os.environ.get("INITFAST_REAL_NETS") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def images(size, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def tokens(vocabulary):
    generator = torch.Generator().manual_seed(1)
    return {"input_ids": torch.randint(vocabulary, (2, 12), generator=generator)}


def resnet50():
    return library("torchvision").models.resnet50(weights=None), images(40)


def vit_b_16():
    return library("torchvision").models.vit_b_16(weights=None, image_size=32), images(32)


def gpt2():
    t = library("transformers")
    config = t.GPT2Config(vocab_size=100, n_positions=32, n_embd=48, n_layer=3, n_head=4)
    return t.GPT2LMHeadModel(config), tokens(100)


def llama():
    t = library("transformers")
    config = t.LlamaConfig(
        vocab_size=100,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    return t.LlamaForCausalLM(config), tokens(100)


NETS = {make.__name__: make for make in (resnet50, vit_b_16, gpt2, llama)}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", NETS)
def test_every_call_of_every_module(name, training):
    torch.manual_seed(0)
    net, x = NETS[name]()
    report = faithful(net.train(training), x)
    assert report.first_nonfinite is None


def test_resnet50_is_fused_and_nests():
    torch.manual_seed(0)
    net, x = resnet50()
    report = profile(net.eval(), x)
    ops = [layer.op for layer in report.select("layer1.0*")]
    assert ops == [
        *("Conv2d", "BatchNorm2d + relu", "Conv2d", "BatchNorm2d + relu", "Conv2d", "BatchNorm2d"),
        *("Conv2d", "BatchNorm2d", "add + relu"),
    ]
    assert report["layer1.0"].type == "Bottleneck" and report["layer1"] is report["layer1.2"]
    assert all(layer.weight for layer in report.select(type="Conv2d"))
    assert len(report.select(depth=1)) < len(report) / 5
    assert "\n  0" in report.tree()


def test_llama_has_its_gates_and_residuals():
    torch.manual_seed(0)
    net, x = llama()
    report = profile(net.eval(), x)
    assert report["model.layers.0.mlp.gate_proj"].op == "linear + silu"
    block = report.select("model.layers.0", depth=3)
    assert [layer.op for layer in block] == ["add", "add"]
    assert {layer.type for layer in block} == {"LlamaDecoderLayer"}


def test_patch_reaches_transformers():
    initialization = library("transformers.initialization")

    def draw():
        w = torch.empty(4)
        return initialization.normal_(w, generator=torch.Generator().manual_seed(1))

    theirs = draw()
    with init.patch_torch():
        ours = draw()
    assert torch.equal(ours, init.normal_(ours, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(draw(), theirs) and not torch.equal(ours, theirs)
