"""Processes that run checks together, as the ranks of one gloo group."""

import gc
import multiprocessing
import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

PRELOADED = [
    "torch.distributed.fsdp",
    "torch.distributed.pipelining",
    "torch.distributed.tensor.parallel",
]
"""What ranks have from the start: importing it takes each as long as its checks do."""


def run(checks, ranks, folder):
    """Call each check(rank, ranks) in every one of `ranks` new processes; raise what one raises.

    Checks are found by name in the new processes: define them in a module. The processes are forks
    of one that has imported torch, and has done nothing else.
    """
    multiprocessing.set_forkserver_preload(PRELOADED)
    args = ranks, str(folder), checks
    mp.start_processes(_work, args=args, nprocs=ranks, join=True, start_method="forkserver")


def _work(rank, ranks, folder, checks):
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks
    )
    try:
        for check in checks:
            check(rank, ranks)
        dist.barrier()  # nobody leaves while another still talks to it
        gc.collect()  # a wrapped net in a cycle holds the group
    finally:
        dist.destroy_process_group()
    # Gloo's threads may still hold a finished collective's tensors. If they let go of them while
    # the interpreter shuts down, asking for its lock ends the process (see pytorch#179291).
    os._exit(0)
