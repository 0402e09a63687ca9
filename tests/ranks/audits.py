"""What the ranks of repair/test_across_ranks.py check, in processes that import this module."""

import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from initfast.repair.auditing import audit


def net_of(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.Linear(64, 16))


def found(net):
    """The rules of the errors, the same on all ranks."""
    errors = [f for f in audit(net, group=dist.group.WORLD).findings if f.severity == "error"]
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, pickle.dumps([(f.rule, f.measured) for f in errors]))
    assert len(set(everyone)) == 1
    return [f.rule for f in errors]


def check_replicas(rank, ranks):
    assert found(net_of(1)) == []
    assert found(net_of(rank)) == ["replicas_differ"]
    net = net_of(1)
    if rank == ranks - 1:
        with torch.no_grad():
            net[2].bias[3] = torch.nextafter(net[2].bias[3], torch.tensor(9.0))
    (finding,) = audit(net, group=dist.group.WORLD).findings
    assert finding.rule == "replicas_differ" and finding.names == ("2.bias", "2.bias")
    assert f"rank {ranks - 1} differs from rank 0" in finding.measured
    assert audit(net).findings == []


def sharded(net, mesh, placements):
    """As FSDP2 leaves it: every parameter a DTensor."""
    for module in net.modules():
        for name, parameter in list(module._parameters.items()):
            whole = distribute_tensor(parameter.detach(), mesh, placements)
            setattr(module, name, nn.Parameter(whole))
    return net


def redrawn(net, seed):
    """Each rank draws its part of the weights alone, from one seed or its own."""
    torch.manual_seed(seed)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter.to_local(), std=0.02)
    return net


def check_shards(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    assert found(sharded(net_of(1), mesh, [Shard(0)])) == []
    assert found(redrawn(sharded(net_of(1), mesh, [Shard(0)]), 7)) == ["equal_shards"]
    assert found(redrawn(sharded(net_of(1), mesh, [Shard(0)]), rank)) == []
    assert found(redrawn(sharded(net_of(1), mesh, [Replicate()]), rank)) == ["replicas_differ"]


def check_hybrid_shards(rank, ranks):
    """Replicas of shards (OLMo-core#319): the replicas of each shard must agree."""
    mesh = init_device_mesh("cpu", (2, ranks // 2))
    both = [Replicate(), Shard(0)]
    assert found(sharded(net_of(1), mesh, both)) == []
    assert found(redrawn(sharded(net_of(1), mesh, both), rank % (ranks // 2))) == []
    assert found(redrawn(sharded(net_of(1), mesh, both), rank)) == ["replicas_differ"]
    assert found(redrawn(sharded(net_of(1), mesh, both), 5)) == ["equal_shards"]


def check_parts_that_are_no_dtensors(rank, ranks):
    """Megatron marks them; biases and norms are replicas."""

    def marked(seed):
        net = net_of(1)
        torch.manual_seed(seed)
        nn.init.normal_(net[0].weight)
        net[0].weight.tensor_model_parallel = True
        return net

    assert found(marked(rank)) == []
    assert found(marked(3)) == ["equal_shards"]


def check_other_nets(rank, ranks):
    net = net_of(1) if rank == 0 else nn.Linear(3, 3)
    assert found(net) == ["ranks_differ"]


def check_that_nobody_waits(rank, ranks):
    net = net_of(1) if rank else "no net"
    with pytest.raises((TypeError, RuntimeError), match="expected"):
        audit(net, group=dist.group.WORLD)


CHECKS = [
    check_replicas,
    check_shards,
    check_hybrid_shards,
    check_parts_that_are_no_dtensors,
    check_other_nets,
    check_that_nobody_waits,
]
