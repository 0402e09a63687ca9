"""What ranks of report/test_gathered.py check of nets of transformers."""

import pytest
import torch
from ranks.gathered import assert_whole
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import initfast

IDS = torch.arange(4 * 6).view(4, 6) ** 2 % 31


def gpt2():
    torch.manual_seed(0)
    off = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = GPT2Config(
        vocab_size=31,
        n_positions=8,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        **off,
    )
    return GPT2LMHeadModel(config).double()


def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=31, **sizes, **heads)).double()


def split(model, mesh):
    """Heads and the feed-forward blocks' columns, a part of them on each rank."""
    for layer in model.model.layers:
        columns = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        columns += ("mlp.gate_proj", "mlp.up_proj")
        plan = {name: ColwiseParallel() for name in columns}
        plan |= {name: RowwiseParallel() for name in ("self_attn.o_proj", "mlp.down_proj")}
        parallelize_module(layer, mesh, plan)
    return model


def given(ids):
    return {"input_ids": ids, "use_cache": False}


def loss(output):
    return output.logits.square().mean()


def assert_same(report, expected, **options):
    """As assert_whole; what is the same for every sample, as positions, counts with each batch."""
    layers = [[], []]
    for a, b in zip(report, expected, strict=True):
        if b.shape[0] == 1:
            assert a.shape[1:] == b.shape[1:] and not a.post.count % b.post.count
            assert a.rms == pytest.approx(b.rms, rel=1e-12), a.name
        else:
            layers[0].append(a)
            layers[1].append(b)
    assert_whole(report.replaced(layers[0]), expected.replaced(layers[1]), **options)


def data_parallel(rank, ranks):
    """Copies, DistributedDataParallel and FSDP2, which train a step, of a GPT-2 and of a Llama."""
    mine, mesh = given(IDS.chunk(ranks)[rank]), init_device_mesh("cpu", (ranks,))
    for make in (gpt2, llama):
        expected = initfast.profile(make(), given(IDS), loss=loss)
        report = initfast.profile(make(), mine, loss=loss).gathered()
        assert_same(report, expected, gradients=("grad",))
        wrapped = nn.parallel.DistributedDataParallel(make())
        with initfast.Profiler(wrapped) as p:
            loss(wrapped(**mine)).backward()
        assert_same(p.report().gathered(), expected, gradients=("grad",), has_loss=False)
        shared = make()
        blocks = shared.transformer.h if make is gpt2 else shared.model.layers
        for block in (*blocks, shared):
            fully_shard(block, mesh=mesh)
        with initfast.Profiler(shared) as p:
            loss(shared(**mine)).backward()
        assert_same(p.report().gathered(), expected, gradients=("grad",), has_loss=False)


def tensor_parallel(rank, ranks):
    """A Llama by heads, with a loss."""
    expected = initfast.profile(llama(), given(IDS), loss=loss)
    shared = split(llama(), init_device_mesh("cpu", (ranks,)))
    assert_same(initfast.profile(shared, given(IDS), loss=loss).gathered(), expected)


def data_and_tensor_parallel(rank, ranks):
    """FSDP2 along one dimension of a mesh, heads along the other."""
    mesh = init_device_mesh("cpu", (ranks // 2, 2), mesh_dim_names=("data", "tensor"))
    mine = given(IDS.chunk(ranks // 2)[rank // 2])
    expected = initfast.profile(llama(), given(IDS), loss=loss)
    shared = split(llama(), mesh["tensor"])
    for block in (*shared.model.layers, shared):
        fully_shard(block, mesh=mesh["data"])
    with initfast.Profiler(shared) as p:
        loss(shared(**mine)).backward()
    assert_same(p.report().gathered(), expected, gradients=("grad",), has_loss=False)


OF_TWO = [data_parallel, tensor_parallel]
OF_FOUR = [data_and_tensor_parallel]
