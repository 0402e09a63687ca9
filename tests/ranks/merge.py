"""What the ranks of stats/test_merge.py check, in processes that import this module."""

import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn

import initfast
from initfast.collectives import gather
from initfast.stats.moments import Moments

BATCH = 12  # shared evenly by 1, 2 and 4 ranks


def whole_batch():
    return torch.randn(BATCH, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def net():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)]
    return nn.Sequential(*layers).double()


def part(rank, ranks):
    return whole_batch().chunk(ranks)[rank]


def same_on_all_ranks(value):
    """Whether every rank has the same bits."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, pickle.dumps(value))
    return len(set(values)) == 1


def close(a, b, rel=1e-12):
    """Whether two moments agree: counts and extremes exactly, the others to rounding."""
    if a is None or b is None:
        return a is b
    exact = ("count", "nonfinite", "zero", "saturated")
    scale = abs(b.mean) + b.std
    return (
        all(getattr(a, name) == getattr(b, name) for name in exact)
        and abs(a.mean - b.mean) <= rel * scale
        and abs(a.m2 - b.m2) <= rel * b.m2
        and abs(a.min - b.min) <= rel * scale
        and abs(a.max - b.max) <= rel * scale
    )


ROLES = ("post", "pre", "input", "grad", "weight_grad")


def assert_equal(report, expected):
    assert [layer.name for layer in report] == [layer.name for layer in expected]
    for a, b in zip(report, expected, strict=True):
        for role in ROLES:
            assert close(getattr(a, role), getattr(b, role)), (a.name, role)
        facts = [(x.op, x.shape, x.input_shape, x.dtype, x.dead_units, x.weight) for x in (a, b)]
        assert facts[0] == facts[1], a.name


def check_moments(rank, ranks):
    x = torch.randn(1000, generator=torch.Generator().manual_seed(1)) * 1e30 + 1e31
    parts = [Moments.of(chunk) for chunk in x.split([400, 0, 590, 10])]
    mine = Moments()
    for i in range(rank, len(parts), ranks):
        mine = mine.merge(parts[i])
    total = mine.all_reduce()
    assert same_on_all_ranks(total)
    assert close(total, Moments.of(x), 1e-7)
    pairs = [dist.new_group([i]) for i in range(ranks)]
    for group in (pairs[rank], pairs[(rank + 1) % ranks]):  # alone in it; not in it
        assert repr(mine.all_reduce(group)) == repr(mine)


def check_forward(rank, ranks):
    report = initfast.profile(net(), part(rank, ranks)).all_reduce()
    assert same_on_all_ranks(report.to_json())
    assert_equal(report, initfast.profile(net(), whole_batch()))


def check_backward(rank, ranks):
    """Under DistributedDataParallel, as alone: the mean loss of the whole batch."""
    targets = torch.arange(BATCH) % 3
    criterion = nn.CrossEntropyLoss()
    own = targets.chunk(ranks)[rank]
    wrapped = nn.parallel.DistributedDataParallel(net())
    before = {n: p.grad for n, p in wrapped.named_parameters()}
    report = initfast.profile(wrapped, part(rank, ranks), loss=criterion, targets=own)
    assert {n: p.grad for n, p in wrapped.named_parameters()} == before
    assert same_on_all_ranks(report.to_json())
    alone = initfast.profile(net(), whole_batch(), loss=criterion, targets=targets)
    assert report[0].grad is not None and report[0].weight_grad is not None
    assert_equal(report, alone)
    assert (report.root, alone.root) == ("net.module", "net")
    # The wrapped net trains on as it would have.
    wrapped(part(rank, ranks)).sum().backward()
    assert same_on_all_ranks(wrapped.module[0].weight.grad.tolist())


def check_ranks_that_differ(rank, ranks):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x):
            return self.last(self.first(x) if rank == 0 else self.second(x))

    report = initfast.profile(Branching(), torch.ones(2, 6)).all_reduce()
    assert [layer.name for layer in report] == (
        ["second", "first", "last"] if ranks > 1 else ["first", "last"]
    )
    assert report["last"].post.count == 12 * ranks and report["first"].post.count == 12


class Experts(nn.Module):
    """Every rank has an expert of its own, and the last none."""

    def __init__(self, rank, ranks):
        super().__init__()
        torch.manual_seed(0)
        self.chosen = rank if rank < ranks - 1 else None
        self.scale = nn.Parameter(torch.ones(6))
        self.experts = nn.ModuleList(nn.Linear(6, 5 + i) for i in range(ranks)).double()

    def forward(self, x):
        x = x * self.scale
        return x if self.chosen is None else self.experts[self.chosen](x)


def check_experts(rank, ranks):
    """Ranks that run different modules average the gradients of the same weights."""
    wrapped = nn.parallel.DistributedDataParallel(Experts(rank, ranks), find_unused_parameters=True)
    report = initfast.profile(wrapped, part(rank, ranks), loss=lambda y: y.square().mean())
    assert same_on_all_ranks(report.to_json())
    for i in range(ranks - 1):
        alone = initfast.profile(
            Experts(i, ranks), part(i, ranks), loss=lambda y: y.square().mean()
        )
        name = f"experts.{i}"
        assert close(report[name].weight_grad, alone[name].weight_grad.scaled(1 / ranks))


class Fails(nn.Module):
    def __init__(self, fails):
        super().__init__()
        self.linear, self.fails = nn.Linear(6, 6).double(), fails

    def forward(self, x):
        y = self.linear(x)
        if self.fails == "forward":
            raise ValueError("no")
        return y


def check_a_rank_that_raises(rank, ranks):
    """Where one rank cannot go on, all say so; none waits for it."""
    last = ranks - 1
    for where in ("input", "forward", "loss", "backward"):
        fails = where if rank == last else None
        wrapped = nn.parallel.DistributedDataParallel(Fails(fails))
        x = part(rank, ranks)
        if fails == "input":
            with torch.inference_mode():
                x = x.clone()

        def loss(y, fails=fails):
            if fails == "backward":
                y.register_hook(fail)
            return fail() if fails == "loss" else y.square().mean()

        words = f"rank {last} raised ValueError: " if rank < last else "inference|no"
        with pytest.raises(RuntimeError if rank < last else ValueError, match=words):
            initfast.profile(wrapped, x, loss=loss)
        wrapped(part(rank, ranks)).sum().backward() if where != "forward" else None
    with pytest.raises(RuntimeError, match=f"rank {last} has nothing to give .*pickle"):
        gather((lambda: 0) if rank == last else 0)


def fail(*_):
    raise ValueError("no")


CHECKS = [
    check_a_rank_that_raises,
    check_moments,
    check_forward,
    check_backward,
    check_experts,
    check_ranks_that_differ,
]
