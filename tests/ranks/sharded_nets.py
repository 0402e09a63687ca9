"""What the ranks of interception/test_shards.py check, and nets to shard; processes import this."""

import copy

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

import initfast
from initfast.nets.shards import NOTE, local_part, partial_placements

X = torch.linspace(-9, 9, 4 * 16).view(4, 16).sin()


class Block(nn.Module):
    """A residual feed-forward block, its activation a function."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


def compare(report, expected, rank, ranks, sharded):
    """Each layer of one process's report is there; its output is this rank's part of the whole.

    Args:
        sharded: the names of the layers whose units the ranks share.
    """
    assert [(a.name, a.op) for a in report] == [(b.name, b.op) for b in expected]
    assert not report.skipped and NOTE in report.notes
    for a, b in zip(report, expected, strict=True):
        whole = b.shape[-1]
        assert a.shape == (*b.shape[:-1], whole // ranks if a.name in sharded else whole), a.name
        assert (a.pre is None) == (b.pre is None)
        if a.weight is not None:
            assert (a.weight.fan_in, a.weight.fan_out) == (b.weight.fan_in, b.weight.fan_out)
    everywhere = [None] * ranks
    torch.distributed.all_gather_object(everywhere, [a.post for a in report])
    for i, (a, b) in enumerate(zip(report, expected, strict=True)):
        name, merged = a.name, everywhere[0][i]
        for other in everywhere[1:] if name in sharded else ():
            merged = merged.merge(other[i])
        assert merged.count == b.post.count, name
        for statistic in ("mean", "std", "max"):
            found, wanted = getattr(merged, statistic), getattr(b.post, statistic)
            assert abs(found - wanted) <= 1e-6 * b.post.std, (name, statistic)


def tensor_parallel(rank, ranks):
    """The default: plain parts of outputs, and outputs that a collective still makes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 16), Block(), Block())
    expected = initfast.profile(net, X)
    plan = {f"{i}.up": ColwiseParallel() for i in (1, 2)}
    plan |= {f"{i}.down": RowwiseParallel() for i in (1, 2)}
    shared = parallelize_module(copy.deepcopy(net), init_device_mesh("cpu", (ranks,)), plan)
    y = shared(X)
    compare(initfast.profile(shared, X), expected, rank, ranks, ("1.up", "2.up"))
    with initfast.Profiler(shared) as p:
        assert torch.equal(shared(X), y)
    compare(p.report(), expected, rank, ranks, ("1.up", "2.up"))


def distributed_tensors(rank, ranks):
    """Outputs that are DTensors, of linear layers, an activation, and a sum."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
    expected = initfast.profile(net, X)
    plan = {
        "0": ColwiseParallel(use_local_output=False),
        "2": RowwiseParallel(use_local_output=False),
    }
    mesh = init_device_mesh("cpu", (ranks,))
    report = initfast.profile(parallelize_module(copy.deepcopy(net), mesh, plan), X)
    compare(report, expected, rank, ranks, ("0",))
    assert report[-1].is_returned


def partial_sums(rank, ranks):
    """What is a summand of its values is skipped, with its reason."""
    mesh = init_device_mesh("cpu", (ranks,))
    summand = DTensor.from_local(torch.ones(2, 2), mesh, [Partial()])
    assert partial_placements(summand) and local_part(summand) is summand
    for placement in (Shard(0), Replicate()):
        t = DTensor.from_local(torch.ones(2, 2), mesh, [placement])
        assert local_part(t) is local_part(t) and type(local_part(t)) is torch.Tensor

    class Summand(nn.Module):
        def forward(self, x):
            return DTensor.from_local(x, mesh, [Partial()])

    report = initfast.profile(nn.Sequential(nn.Linear(16, 16), Summand()), X)
    reasons = {item.reason for item in report.skipped}
    assert reasons == {"a DTensor that is Partial(sum): its values are not reduced yet"}, reasons


def pipeline(rank, ranks):
    """A stage's run for its outputs' shapes is not measured."""
    torch.manual_seed(0)
    whole = nn.Sequential(*[nn.Linear(16, 16) for _ in range(2 * ranks)])
    expected = initfast.profile(whole, X)
    mine = whole[2 * rank : 2 * rank + 2]
    stage = PipelineStage(mine, rank, ranks, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, n_microbatches=2)
    for _ in range(2):
        with initfast.Profiler(mine) as p:
            schedule.step(X) if rank == 0 else schedule.step()
        assert p.calls == 2
        for layer in p.report():
            assert layer.shape == (4, 16)
            assert abs(layer.std - expected[layer.name].std) < 1e-6


class Wide(nn.Module):
    """A gated feed-forward block; its parts go through functions that are no layers."""

    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(16, 30), nn.Linear(16, 30), nn.Linear(30, 16)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * torch.tanh(self.up(x)))


class Attention(nn.Module):
    """Self-attention of a few heads, a part of them on each rank."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16, bias=False) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).view(*x.shape[:2], -1, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(*x.shape[:2], -1))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.end = (nn.LayerNorm(16) for _ in range(3))
        self.attention, self.mlp = Attention(), Wide()

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return self.end(x + self.mlp(self.norm2(x)))


def decoder():
    torch.manual_seed(0)
    return Decoder().double()


def decoder_plan(sequence):
    """How a decoder is split; along the sequence between its blocks, if so asked."""
    plan = {f"attention.{name}": ColwiseParallel() for name in "qkv"}
    plan |= {f"mlp.{name}": ColwiseParallel() for name in ("gate", "up")}
    if not sequence:
        return plan | {"attention.o": RowwiseParallel(), "mlp.down": RowwiseParallel()}
    whole = {"input_layouts": Shard(1), "desired_input_layouts": Replicate()}
    options = {"output_layouts": Shard(1), "use_local_output": False}
    plan |= {name: RowwiseParallel(**options) for name in ("attention.o", "mlp.down")}
    plan |= {name: SequenceParallel() for name in ("norm1", "norm2", "end")}
    return plan | {name: PrepareModuleInput(**whole) for name in ("attention", "mlp")}
