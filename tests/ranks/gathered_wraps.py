"""What ranks of report/test_gathered.py check under further wraps; processes import this module."""

import copy
from functools import reduce

import pytest
import torch
from ranks.gathered import TOKENS, Wide, X, assert_close, assert_same_units, assert_whole, loss, net
from ranks.merge import same_on_all_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe, ScheduleInterleaved1F1B
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import initfast
from initfast.stats.moments import Moments


class Checkpointed(nn.Module):
    """Two blocks whose forwards run once more in the backward."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Wide(), Wide()

    def forward(self, x):
        x = checkpoint(self.first, x, use_reentrant=False)
        return checkpoint(self.second, x, use_reentrant=False)


def split_wide(model, mesh, *names):
    plan = {f"{name}.{each}": ColwiseParallel() for name in names for each in ("gate", "up")}
    return parallelize_module(model, mesh, plan | {f"{n}.down": RowwiseParallel() for n in names})


def activation_checkpoints(rank, ranks):
    torch.manual_seed(0)
    plain, x = Checkpointed().double(), X.clone().requires_grad_()
    expected = initfast.profile(plain, x, loss=loss)
    shared = split_wide(copy.deepcopy(plain), init_device_mesh("cpu", (ranks,)), "first", "second")
    assert_whole(initfast.profile(shared, x, loss=loss).gathered(), expected)


def fully_sharded(mesh, **policies):
    shared = net()
    for block in (shared[3], shared):
        fully_shard(block, mesh=mesh, **policies)
    return shared


def policies_of_fsdp(rank, ranks):
    """Mixed precision, offload to the host, and gradients added up over two backwards."""
    mine, mesh = X.chunk(ranks)[rank], init_device_mesh("cpu", (ranks,))
    low = {"mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16)}
    report = initfast.profile(fully_sharded(mesh, **low), mine).gathered()
    for a, b in zip(report, initfast.profile(net().bfloat16(), X.bfloat16()), strict=True):
        assert (a.name, a.op, a.shape, a.dtype) == (b.name, b.op, b.shape, b.dtype)
        assert a.post.count == b.post.count and abs(a.std - b.std) < 1e-3 * b.std
    shared = fully_sharded(mesh, offload_policy=CPUOffloadPolicy(pin_memory=False))
    with initfast.Profiler(shared) as p:
        for _ in range(2):
            loss(shared(mine)).backward()
    report = p.report().gathered()
    for a, b in zip(report, initfast.profile(net(), X, loss=loss), strict=True):
        assert a.post.count == 2 * b.post.count and (a.grad is None) == (b.grad is None)
        if b.grad is not None:  # a pre-activation's row has none
            assert a.grad.count == 2 * b.grad.count
            assert abs(a.grad.rms - b.grad.rms) < 1e-9 * b.grad.rms


def several_stages(rank, ranks):
    """A schedule in which each rank runs two stages, of modules of the same names."""
    torch.manual_seed(0)
    whole = nn.Sequential(*[nn.Linear(16, 16) for _ in range(2 * ranks)]).double()
    expected = initfast.profile(whole, X)
    numbers = (rank, rank + ranks)
    nets = [nn.Sequential(whole[i]) for i in numbers]
    stages = [
        PipelineStage(own, i, 2 * ranks, torch.device("cpu"))
        for own, i in zip(nets, numbers, strict=True)
    ]
    schedule = ScheduleInterleaved1F1B(stages, n_microbatches=2, loss_fn=lambda y, t: loss(y))
    with initfast.Profiler(nets[0]) as first, initfast.Profiler(nets[1]) as second:
        schedule.step(X) if rank == 0 else schedule.step(target=X)
    report = first.report().merge(second.report()).gathered()
    for a, b in zip(report, expected, strict=True):
        assert_close(a.post, b.post, a.name)
    assert_close(report.inputs[0], expected.inputs[0], "input")


def hybrid_shards(rank, ranks):
    """FSDP2 along one dimension of a mesh, and copies along the other."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards"))
    report = initfast.profile(fully_sharded(mesh), X.chunk(ranks)[rank]).gathered()
    assert_whole(report, initfast.profile(net(), X))


def pipeline_of_tensor_parallel(rank, ranks):
    """Two stages, each of them run by two ranks together."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("stages", "tensor"))
    torch.manual_seed(0)
    whole = nn.Sequential(Wide(), Wide()).double()
    expected, number = initfast.profile(whole, X), rank // 2
    mine = split_wide(nn.Sequential(copy.deepcopy(whole[number])), mesh["tensor"], "0")
    group = mesh["stages"].get_group()
    stage = PipelineStage(mine, number, 2, torch.device("cpu"), group=group)
    schedule = ScheduleGPipe(stage, n_microbatches=2)
    with initfast.Profiler(mine) as p:
        schedule.step(X) if number == 0 else schedule.step()
    for a, b in zip(p.report().gathered(), expected, strict=True):
        assert (a.op, a.shape, a.dead_units) == (b.op, b.shape, b.dead_units)
        assert_close(a.post, b.post, a.name)
        assert_same_units(a, b)


def meshes_that_do_not_match(rank, ranks):
    """Two ranks split a layer, and two do not, or in another way: all say so."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))["tensor"]
    # Without a bias a plain product adds up whichever way its weight is cut.
    for others in (None, RowwiseParallel(input_layouts=Replicate(), use_local_output=False)):
        plan = ColwiseParallel(use_local_output=False) if rank < 2 else others
        torch.manual_seed(0)
        layer = nn.Linear(16, 16, bias=False).double()
        layer = layer if plan is None else parallelize_module(layer, mesh, plan)
        report = initfast.profile(layer, X)
        with pytest.raises(RuntimeError, match=r"weight of layer '' is cut .*same mesh"):
            report.gathered()


class Products(nn.Module):
    """Scores as wide as the input is long, some of them by the first rows of a parameter."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(16, 8), nn.Linear(16, 8)
        self.positions = nn.Parameter(torch.ones(8, 9))

    def forward(self, x):
        scores = self.query(x) @ self.key(x).mT
        scores = (scores + functional.linear(x[..., :8], self.positions.T[: x.shape[-2]])).relu()
        return scores.softmax(-1) @ x


def lengths_that_differ(rank, ranks):
    """What is as wide as a rank's own batch is long merges, but for its units; shapes do not."""
    torch.manual_seed(0)
    model, length = Products().double(), 4 + rank % 2
    report = initfast.profile(model, TOKENS[:, :length]).gathered()
    assert same_on_all_ranks(report.to_json())
    of_each = [initfast.profile(model, TOKENS[:, : 4 + i % 2]) for i in range(ranks)]
    for layer, *parts in zip(report, *of_each, strict=True):
        assert_close(layer.post, reduce(Moments.merge, [each.post for each in parts]), layer.op)
        is_alike = len({each.shape[-1] for each in parts}) == 1
        assert (layer.correlation is not None) == is_alike and layer.dead_units is None, layer.op
    steps = [torch.ones(2, 3 + (rank * step) % 2, 16).double() for step in range(2)]
    with initfast.Profiler(model) as p:  # whose steps differ on one rank alone
        for x in steps:
            model(x)
    assert p.report().gathered().processes == ranks
    with pytest.raises(RuntimeError, match="weight of layer '' is cut in different ways"):
        initfast.profile(nn.Linear(4, 4 + rank), torch.ones(3, 4)).gathered()


OF_TWO = [lengths_that_differ, activation_checkpoints, policies_of_fsdp, several_stages]
OF_FOUR = [hybrid_shards, pipeline_of_tensor_parallel, meshes_that_do_not_match]
