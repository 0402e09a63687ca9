"""What the ranks of report/test_gathered.py check, in processes that import this module."""

import copy
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from ranks.merge import Fails, same_on_all_ranks
from ranks.sharded_nets import Block, Wide, decoder, decoder_plan
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import initfast
from initfast.nets.shards import NOTE
from initfast.report.gathering import gather_report, listing_of, traffic
from initfast.stats.unit_moments import OF_UNITS

X = torch.linspace(-9, 9, 4 * 16, dtype=torch.float64).view(4, 16).sin()
TOKENS = torch.linspace(-9, 9, 4 * 6 * 16, dtype=torch.float64).view(4, 6, 16).sin()


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), Block(), nn.ReLU(), Wide(), nn.LayerNorm(16)).double()


PLAN = {
    **{f"1.{name}": ColwiseParallel for name in ("up",)},
    **{f"3.{name}": ColwiseParallel for name in ("gate", "up")},
    **{f"{i}.down": RowwiseParallel for i in (1, 3)},
}


def split(model, mesh, **options):
    return parallelize_module(model, mesh, {name: of(**options) for name, of in PLAN.items()})


def assert_whole(report, expected, gradients=("grad", "weight_grad"), has_loss=True):
    """The report is that of one process, on every rank the same."""
    assert same_on_all_ranks(report.to_json())
    rows = [[(a.name, a.op) for a in each] for each in (report, expected)]
    assert rows[0] == rows[1], rows
    assert report.skipped == expected.skipped
    for a, b in zip(report, expected, strict=True):
        facts = [(x.shape, x.dead_units, x.units, x.is_returned, x.also) for x in (a, b)]
        assert facts[0] == facts[1], (a.name, facts)
        assert_same_units(a, b)
        roles = ["post", "pre", "input", *gradients]
        for role in roles:
            rel = 1e-9 if "grad" in role else 1e-11  # gradients of a softmax nearly cancel
            assert_close(getattr(a, role), getattr(b, role), (a.name, role), rel)
        assert (a.weight is None) == (b.weight is None)
        if a.weight is not None:
            assert (a.weight.fan_in, a.weight.fan_out) == (b.weight.fan_in, b.weight.fan_out)
            assert_close(a.weight.moments, b.weight.moments, (a.name, "weight"))
    for a, b in zip(report.inputs, expected.inputs, strict=True):
        assert_close(a, b, "input")
    if has_loss and expected.loss is not None:
        assert report.loss == pytest.approx(expected.loss, rel=1e-12)


def assert_same_units(a, b, rel=1e-11):
    """What the units tell of the whole layer is what one process tells."""
    for name in OF_UNITS:
        found, wanted = getattr(a, name), getattr(b, name)
        assert (found is None) == (wanted is None), (a.name, name, found, wanted)
        if wanted is not None:
            # A correlation near 0 is what is left of sums that cancel.
            assert found == pytest.approx(wanted, rel=rel, abs=rel), (a.name, name, found, wanted)


def assert_close(a, b, what, rel=1e-11):
    if a is None or b is None:
        assert a is b, (what, a, b)
        return
    for count in ("count", "nonfinite", "nan", "saturated"):
        assert getattr(a, count) == getattr(b, count), (what, count, a, b)
    near_zero = max(a.smallest, b.smallest) < 1e-15 * b.std  # what cancels, to rounding
    assert a.zero == b.zero or near_zero, (what, a, b)
    scale = abs(b.mean) + b.std
    for statistic in ("mean", "std", "min", "max"):
        found, wanted = getattr(a, statistic), getattr(b, statistic)
        assert abs(found - wanted) <= rel * scale, (what, statistic, found, wanted)
    assert abs(a.kurtosis - b.kurtosis) <= 100 * rel * b.kurtosis, what


def loss(y):
    return y.square().mean()


def tensor_parallel(rank, ranks):
    """Column- and row-parallel layers, their parts plain tensors, with a loss and without."""
    expected = initfast.profile(net(), X)
    shared = split(net(), init_device_mesh("cpu", (ranks,)))
    report = initfast.profile(shared, X)
    assert report.processes == 1
    whole = report.gathered()
    assert whole.processes == ranks and NOTE not in whole.notes
    assert_whole(whole, expected)
    one = initfast.profile(shared, X[:1])  # of one sample a zero tells nothing of a unit
    assert_whole(one.gathered(), initfast.profile(net(), X[:1]))
    with initfast.Profiler(shared) as p:
        shared(X[:1])
        shared(X[1:])
    assert_whole(p.report().gathered(), expected)
    expected = initfast.profile(net(), X, loss=loss)
    assert_whole(initfast.profile(shared, X, loss=loss, group=dist.group.WORLD), expected)


def distributed_tensors(rank, ranks):
    """The same with outputs that are DTensors, whose gradients may be sums yet."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh()).double()
    mesh = init_device_mesh("cpu", (ranks,))
    plan = {"0": ColwiseParallel(use_local_output=False), "2": RowwiseParallel()}
    for last in ({}, {"use_local_output": False}):
        plan["2"] = RowwiseParallel(input_layouts=Shard(-1), **last)
        shared = parallelize_module(copy.deepcopy(plain), mesh, plan)
        assert_whole(initfast.profile(shared, X).gathered(), initfast.profile(plain, X))
        report = initfast.profile(shared, X, loss=loss)
        assert_whole(report.gathered(), initfast.profile(plain, X, loss=loss))


def uneven(rank, ranks):
    """A dimension that the ranks cannot cut evenly, and a rank that holds nothing of it."""
    torch.manual_seed(0)
    for width in (3, 1):
        plain = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 4)).double()
        plan = {"0": ColwiseParallel(use_local_output=False), "2": RowwiseParallel()}
        mesh = init_device_mesh("cpu", (ranks,))
        shared = parallelize_module(copy.deepcopy(plain), mesh, plan)
        assert_whole(initfast.profile(shared, X).gathered(), initfast.profile(plain, X))


def transformer(rank, ranks):
    """A decoder by heads, and the same with the sequence split between its blocks."""
    expected = initfast.profile(decoder(), TOKENS, loss=loss)
    mesh = init_device_mesh("cpu", (ranks,))
    shared = parallelize_module(decoder(), mesh, decoder_plan(False))
    assert_whole(initfast.profile(shared, TOKENS, loss=loss).gathered(), expected)
    shared = parallelize_module(decoder(), mesh, decoder_plan(True))
    x = distribute_tensor(TOKENS, mesh, [Shard(1)])
    expected = initfast.profile(decoder(), TOKENS)
    assert_whole(initfast.profile(shared, x).gathered(), expected)


def data_parallel(rank, ranks):
    """FSDP2 with steps of training, and copies of a net: the ranks' batches are one."""
    mine, expected = X.chunk(ranks)[rank], initfast.profile(net(), X, loss=loss)
    report = initfast.profile(net(), mine, loss=loss).gathered()
    assert_whole(report, expected, gradients=("grad",))
    assert any("Gradients at weights are left out" in note for note in report.notes)
    shared = net()
    mesh = init_device_mesh("cpu", (ranks,))
    for block in (shared[3], shared):
        fully_shard(block, mesh=mesh)
    assert_whole(initfast.profile(shared, mine).gathered(), initfast.profile(net(), X))
    with initfast.Profiler(shared) as p:
        loss(shared(mine)).backward()
    assert_whole(p.report().gathered(), expected, gradients=("grad",), has_loss=False)
    wrapped = nn.parallel.DistributedDataParallel(net())
    report = initfast.profile(wrapped, mine, loss=loss, group=dist.group.WORLD)
    assert report.processes == ranks
    assert_close(report[0].weight_grad, expected[0].weight_grad, "DistributedDataParallel")


def pipeline(rank, ranks):
    """The stages of a schedule follow each other, whatever their modules are called."""
    torch.manual_seed(0)
    whole = nn.Sequential(*[nn.Linear(16, 16) for _ in range(2 * ranks)]).double()
    expected = initfast.profile(whole, X, loss=loss)
    mine = nn.Sequential(*whole[2 * rank : 2 * rank + 2])  # its modules are called 0 and 1
    stage = PipelineStage(mine, rank, ranks, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, n_microbatches=2, loss_fn=lambda y, t: loss(y))
    with initfast.Profiler(mine) as p:
        schedule.step(X) if rank == 0 else schedule.step(target=X)
    report = p.report().gathered()
    assert [layer.name for layer in report] == ["0", "1"] * ranks
    for a, b in zip(report, expected, strict=True):
        assert a.shape == b.shape
        assert_close(a.post, b.post, a.name)
        assert_same_units(a, b)
        assert_close(a.grad, b.grad, (a.name, "grad"), 1e-9)  # of the mean of the losses
    assert_close(report.inputs[0], expected.inputs[0], "input")


def data_and_tensor_parallel(rank, ranks):
    """FSDP2 along one dimension of a mesh, tensor parallelism of two along the other."""
    mesh = init_device_mesh("cpu", (ranks // 2, 2), mesh_dim_names=("data", "tensor"))
    mine = X.chunk(ranks // 2)[rank // 2]
    expected = initfast.profile(net(), X, loss=loss)
    shared = split(net(), mesh["tensor"])
    report = initfast.profile(shared, mine, loss=loss).gathered()
    assert_whole(report, expected, gradients=("grad",))
    for block in (shared[3], shared):
        fully_shard(block, mesh=mesh["data"])
    assert_whole(initfast.profile(shared, mine).gathered(), initfast.profile(net(), X))
    with initfast.Profiler(shared) as p:
        loss(shared(mine)).backward()
    assert_whole(p.report().gathered(), expected, gradients=("grad",), has_loss=False)


def traffic_is_as_computed(rank, ranks):
    """The collectives, and the bytes of their results, are those of the formula."""
    report = initfast.profile(net(), X.chunk(ranks)[rank], loss=loss)
    counted = []

    def counting(function, result):
        def counts(*args, **kwargs):
            counted.append(sum(t.nbytes for t in result(args)))
            return function(*args, **kwargs)

        return counts

    with pytest.MonkeyPatch.context() as patch:
        for name in ("broadcast", "all_reduce", "all_to_all_single"):
            patch.setattr(dist, name, counting(getattr(dist, name), lambda args: args[:1]))
        patch.setattr(dist, "all_gather", counting(dist.all_gather, lambda args: args[0]))
        report.gathered()
    expected = traffic([listing_of(report)], ranks)
    assert (len(counted), sum(counted)) == (expected.messages, expected.received)
    assert traffic([listing_of(report)], 4096).received < 4096 * expected.rows


def errors(rank, ranks):
    """What goes wrong on one rank is said on all, with its name, and what follows works."""
    last = ranks - 1
    layer, x = nn.Linear(4, 4), torch.ones(2, 4)
    report = initfast.profile(layer, x)
    whole = report.gathered()
    for bad, words in (
        (whole, f"rank {last} cannot take part: ValueError: its report is that of {ranks} proc"),
        (None, f"rank {last} cannot take part: AttributeError"),
    ):
        with pytest.raises(RuntimeError, match=words):
            gather_report(bad if rank == last else report, None)
    longer = [nn.Linear(4, 4) for _ in range(2 if rank == last else 1)]
    who = f"rank {last} differ from those of ranks 0" if ranks > 2 else "rank 1 differ from"
    with pytest.raises(RuntimeError, match=f"layers of {who}.*layer 1 is '1' .linear.*none here"):
        initfast.profile(nn.Sequential(*longer), x).gathered()
    words = f"rank {last} raised ValueError: no" if rank < last else "no"
    with pytest.raises(RuntimeError if rank < last else ValueError, match=words):
        failing = Fails("forward" if rank == last else None)
        initfast.profile(failing, X[:, :6], group=dist.group.WORLD)
    first = dist.new_group([0])  # which the others are no part of
    assert (report.gathered(first) is report) == (rank != 0)
    assert initfast.profile(layer, x, group=first).processes == 1
    with pytest.raises(TypeError, match="group is a int; expected a group"):
        initfast.profile(layer, x, group=3)


def a_rank_that_does_not_come(rank, ranks):
    """The others wait for the group's time-out, and no longer."""
    report = initfast.profile(nn.Linear(4, 4), torch.ones(2, 4))
    group = dist.new_group(timeout=timedelta(seconds=20))
    if rank:
        with pytest.raises(RuntimeError, match=f"rank {rank} waited in vain.*all {ranks} ranks"):
            report.gathered(group)
    dist.barrier()


CHECKS = [
    tensor_parallel,
    distributed_tensors,
    uneven,
    transformer,
    data_parallel,
    pipeline,
    traffic_is_as_computed,
    errors,
]
