"""What each rank of profiling/test_profiler.py runs, in a process that imports this module."""

import pytest
import torch
from ranks.merge import assert_equal, close, net, part, same_on_all_ranks, whole_batch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

import initfast


def assert_profiled(report, net, x):
    """The report is that of one profile."""
    assert_equal(report, initfast.profile(net, x))


def check_ranks(rank, ranks):
    """DistributedDataParallel in training: the ranks' batches are one report on all of them."""
    wrapped = nn.parallel.DistributedDataParallel(net())
    with initfast.Profiler(wrapped) as p:
        for x in part(rank, ranks).split(3):
            wrapped(x).square().mean().backward()
    report = p.report().all_reduce()
    assert same_on_all_ranks(report.to_json())
    assert report[0].grad.count == report[0].post.count
    assert report.root == "net.module"
    with initfast.Profiler(wrapped) as p, torch.no_grad():
        for x in part(rank, ranks).split(3):
            wrapped(x)
    assert_profiled(p.report().all_reduce(), net(), whole_batch())


def nested():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), inner, nn.Linear(8, 3)).double()


def sharded(kind, ranks):
    model = nested()
    if kind == "fully_shard":
        mesh = init_device_mesh("cpu", (ranks,))
        fully_shard(model[2], mesh=mesh)
        return fully_shard(model, mesh=mesh)
    how = {"device_id": torch.device("cpu"), "use_orig_params": kind == "original"}
    model[2] = FullyShardedDataParallel(model[2], **how)
    return FullyShardedDataParallel(model, **how)


def local_parameters(model):
    return [getattr(p, "_local_tensor", p).detach().clone() for p in model.parameters()]


def check_sharded(rank, ranks):
    """Under FSDP: a forward and steps of training are measured, and nothing else is changed."""
    x = part(rank, ranks)
    for kind in ("fully_shard", "flat", "original"):
        first, second = sharded(kind, ranks), sharded(kind, ranks)
        report, expected = initfast.profile(first, x), initfast.profile(nested(), x)
        # To rounding: the library's product depends on where in memory the weights lie.
        for layer, other in zip(report, expected, strict=True):
            assert close(layer.post, other.post)
        assert [layer.weight for layer in report] == [layer.weight for layer in expected]
        with pytest.raises(ValueError, match=r"the net' \(.*\) is sharded by FSDP.*Profiler"):
            initfast.profile(first, x, loss=lambda y: y.square().mean())
        with initfast.Profiler(first) as p:
            first(x).square().mean().backward()
        second(x).square().mean().backward()
        expected = initfast.profile(nested(), x, loss=lambda y: y.square().mean())
        for layer, other in zip(p.report(), expected, strict=True):
            assert close(layer.grad, other.grad) and close(layer.weight_grad, other.weight_grad)
        for model in (first, second):
            torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert all(map(torch.equal, local_parameters(first), local_parameters(second)))
