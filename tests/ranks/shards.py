"""What the ranks of init/test_placement.py check, in processes that import this module."""

import itertools
import math

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from initfast import init
from initfast.init.placement import shard_of

SHAPE = (10, 7)  # divisible by neither 2 nor 4
INITIALISERS = {
    "uniform_": lambda w: init.uniform_(w),
    "normal_": lambda w: init.normal_(w, 1.0, 2.0),
    "trunc_normal_": lambda w: init.trunc_normal_(w, 0, 1, -1, 3),
    "kaiming_normal_": lambda w: init.kaiming_normal_(w),
    "xavier_uniform_": lambda w: init.xavier_uniform_(w),
    "orthogonal_": lambda w: init.orthogonal_(w),
    "sparse_": lambda w: init.sparse_(w, 0.3),
    "eye_": lambda w: init.eye_(w),
    "identity_": lambda w: init.identity_(w, 2.0),
    "constant_": lambda w: init.constant_(w, 0.5),
}


def alone():
    """What one process makes of seed 5, every initialiser in turn."""
    torch.manual_seed(5)
    return {name: f(torch.empty(SHAPE)) for name, f in INITIALISERS.items()}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(7, 10)
        self.down = nn.Linear(10, 6)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


def initialise(net):
    for parameter in net.parameters():
        if parameter.dim() > 1:
            init.kaiming_normal_(parameter)
        else:
            init.uniform_(parameter, -1, 1)


def net_alone():
    net = Net()
    torch.manual_seed(6)
    initialise(net)
    return [p.detach() for p in net.parameters()]


def meshes(ranks):
    flat = [Shard(0), Shard(1), Replicate()]
    yield (ranks,), [(p,) for p in flat]
    if ranks == 4:
        yield (2, 2), [*itertools.product(flat, flat)]


def check_placements(rank, ranks):
    expected = alone()
    for sizes, placements in meshes(ranks):
        mesh = init_device_mesh("cpu", sizes)
        for placement in placements:
            torch.manual_seed(5)
            for name, initialiser in INITIALISERS.items():
                w = distribute_tensor(torch.full(SHAPE, math.nan), mesh, placement)
                version = w._version
                assert initialiser(w) is w and w._version > version
                assert w.placements == placement
                assert torch.equal(w.full_tensor(), expected[name]), (name, sizes, placement)
            key = init.normal_(distribute_tensor(torch.empty(SHAPE), mesh, placement), key=3)
            assert torch.equal(key.full_tensor(), init.normal_(torch.empty(SHAPE), key=3))
            c = distribute_tensor(torch.empty(SHAPE, dtype=torch.complex64), mesh, placement)
            init.normal_(c, 1.0, key=3)
            whole = init.normal_(torch.empty(SHAPE, dtype=torch.complex64), 1.0, key=3)
            shard = shard_of(c)
            assert torch.equal(shard.local, shard.cut(whole))


def check_kernels(rank, ranks):
    """Convolutions' weights, cut along every dimension: a rank may lack the kernel's centre."""
    mesh = init_device_mesh("cpu", (ranks,))
    for dim in range(4):
        for f in (init.dirac_, init.identity_, lambda w: init.delta_orthogonal_(w, key=1)):
            w = f(distribute_tensor(torch.full((6, 5, 3, 4), math.nan), mesh, [Shard(dim)]))
            assert torch.equal(w.full_tensor(), f(torch.empty(6, 5, 3, 4)))


def check_keys_agree(rank, ranks):
    """Ranks seeded differently: the first one's key holds."""
    mesh = init_device_mesh("cpu", (ranks,))
    torch.manual_seed(100)
    expected = init.normal_(torch.empty(SHAPE))
    for placement in (Shard(0), Replicate()):
        torch.manual_seed(100 + rank)
        w = init.normal_(distribute_tensor(torch.empty(SHAPE), mesh, [placement]))
        assert torch.equal(w.full_tensor(), expected)


def same(net, expected):
    for parameter, whole in zip(net.parameters(), expected, strict=True):
        full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        assert torch.equal(full.detach(), whole), parameter


def check_fsdp(rank, ranks):
    """FSDP2, from the meta device as large models are made."""
    from torch.distributed.fsdp import fully_shard

    expected = net_alone()
    mesh = init_device_mesh("cpu", (ranks,))
    with torch.device("meta"):
        net = Net()
    fully_shard(net.up, mesh=mesh)
    fully_shard(net, mesh=mesh)
    net.to_empty(device="cpu")
    torch.manual_seed(6)
    initialise(net)
    same(net, expected)


def check_tensor_parallel(rank, ranks):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    mesh = init_device_mesh("cpu", (ranks,))
    expected = net_alone()
    net = parallelize_module(Net(), mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    torch.manual_seed(6)
    initialise(net)
    same(net, expected)


def check_fsdp_and_tensor_parallel(rank, ranks):
    """Both on one mesh: FSDP2 cuts what tensor parallelism has cut."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    class Even(Net):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(6, 16)
            self.down = nn.Linear(16, 8)

    whole = Even()
    torch.manual_seed(6)
    initialise(whole)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    net = Even()
    parallelize_module(net, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(net, mesh=mesh["dp"])
    assert any(hasattr(p, "split_factor") for p in net.up.weight.placements)
    torch.manual_seed(6)
    initialise(net)
    same(net, [p.detach() for p in whole.parameters()])


def checks(ranks):
    """The checks that this number of ranks allows."""
    some = [check_placements, check_kernels, check_keys_agree]
    if ranks > 1:
        some += [check_fsdp, check_tensor_parallel]
    if ranks == 4:
        some += [check_fsdp_and_tensor_parallel]
    return some
