"""What the ranks of repair/test_sharded.py check, in processes that import this module."""

import torch
from cases.small_nets import Decoder
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import initfast


def build():
    net = nn.Module()
    net.decoder = Decoder(64, 96, 2, 81)  # 81 rows are evenly cut by no rank
    net.recurrent = nn.LSTM(8, 15)
    return net


def shards_gather_to_what_one_process_makes(rank, ranks):
    whole, mesh = build(), init_device_mesh("cpu", (ranks,))
    initfast.initialize_(whole, seed=3)
    for device in ("cpu", "meta"):
        with torch.device(device):
            net = build()
        for layer in net.decoder.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(net, mesh=mesh)
        torch.manual_seed(rank)
        initfast.initialize_(net, seed=3, device="cpu")
        for (name, p), q in zip(net.named_parameters(), whole.parameters(), strict=True):
            assert torch.equal(p.full_tensor(), q), name
