"""What each rank of test_batches.py runs, in a process of its own that imports this module."""

import torch
from merge_ranks import assert_equal, net, part, same_on_all_ranks, whole_batch
from torch import nn

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
    with initfast.Profiler(wrapped) as p, torch.no_grad():
        for x in part(rank, ranks).split(3):
            wrapped(x)
    assert_profiled(p.report().all_reduce(), net(), whole_batch())
