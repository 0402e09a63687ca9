"""What profiles put back where they overlap: in a forward, or in threads."""

import copy
import threading

import pytest
import torch
from cases.profiles import batch
from torch import nn

from initfast.interception.module_calls import CALL
from initfast.profiling.compiled import run_eagerly
from initfast.profiling.profile import profile
from initfast.profiling.restore import put_back_later
from initfast.undo_log import UndoLog


class Overlapping(nn.Module):
    """Writes to its buffers, and replaces one; waits in the middle for what the test does."""

    def __init__(self, wait):
        super().__init__()
        self.norm, self.drop, self.wait = nn.BatchNorm1d(8), nn.Dropout(), wait
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count = self.count + 1
        self.norm.running_mean = self.norm.running_mean + 1
        x = self.drop(self.norm(x))
        self.wait()
        return self.drop(self.norm(x))


def shown(net):
    keys = [sorted(vars(module)) for module in net.modules()]
    return (
        keys,
        {k: t.tolist() for k, t in net.state_dict().items()},
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("first_ends", [0, 1])
def test_two_threads_that_profile_one_net(first_ends):
    ends, middles = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def wait():
        i = int(threading.current_thread().name)
        middles[i].set()
        ends[i].wait(30)

    net, x = Overlapping(wait), batch(4, 8)
    before = shown(net)
    threads = [
        threading.Thread(target=profile, args=(net, x), name=str(i), daemon=True) for i in (0, 1)
    ]
    for thread, middle in zip(threads, middles, strict=True):
        thread.start()
        assert middle.wait(30)
    for i in (first_ends, 1 - first_ends):
        ends[i].set()
        threads[i].join(30)
    assert shown(net) == before


def test_a_profile_in_a_forward_leaves_that_forward_what_it_found():
    inside = []

    def wait():
        if not inside:
            inside.append(shown(net))
            profile(net, batch(4, 8))
            inside.append(shown(net))

    net = Overlapping(wait)
    assert CALL not in vars(net.norm)
    before = copy.deepcopy(shown(net))
    profile(net, batch(4, 8))
    assert inside[0] == inside[1] and shown(net) == before


def overlap(change, shown):
    """What is shown while two changes last, while the second does, and after both."""
    first, second = UndoLog(), UndoLog()
    change(first)
    torch.rand(1)
    change(second)
    both = shown()
    first.undo()
    one = shown()
    second.undo()
    return both, one, shown()


def test_compiled_code_runs_eagerly_until_the_last_profile_ends():
    dynamo = pytest.importorskip("torch._dynamo")
    before = dynamo.eval_frame._stance.stance
    stances = overlap(run_eagerly, lambda: dynamo.eval_frame._stance.stance)
    assert stances == ("force_eager", "force_eager", before)


def test_the_random_state_is_that_before_all():
    before = torch.get_rng_state().tolist()
    *_, after = overlap(lambda log: put_back_later([], log), lambda: torch.get_rng_state().tolist())
    assert after == before


def test_what_another_thread_trains_meanwhile_stays():
    torch.set_num_threads(1)
    net, x = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()), batch(4, 8)
    ended, steps = threading.Event(), 100

    def train():
        for _ in range(steps):
            net(x).sum().backward()
        ended.set()

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    while not ended.is_set():
        profile(net, x)
    thread.join()
    assert net[1].num_batches_tracked == steps


class Counting(nn.Module):
    """Counts its calls in a buffer that it replaces; waits in the middle for what the test does."""

    def __init__(self, wait):
        super().__init__()
        self.wait, self.inner = wait, nn.Linear(8, 8)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count = self.count + 1
        return self.wait(self.inner(x))


def test_what_another_thread_writes_between_the_calls_of_a_profile_stays():
    def wait(y):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=net[1], args=(y,))  # a part: the profile's own
            thread.start()
            thread.join()
            thread = threading.Thread(target=net, args=(y,))
            thread.start()
            thread.join()
        return y

    net, x = nn.Sequential(Counting(wait), Counting(lambda y: y)), batch(4, 8)
    profile(net, x)
    assert [net[0].count.item(), net[1].count.item()] == [1, 1]  # of the last thread
    assert all(CALL not in vars(module) for module in net.modules())


def test_buffers_have_the_versions_that_they_had():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    net(torch.randn(8, 4))
    before = [(t.clone(), t._version) for t in net.buffers()]
    profile(net, torch.randn(8, 4), loss=torch.sum)
    after = [(t, t._version) for t in net.buffers()]
    assert all(torch.equal(a, b) and i == j for (a, i), (b, j) in zip(before, after, strict=True))
