"""Results that wait, used by another thread than the net's."""

import itertools
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases.profiles import linear, same, x_of
from torch import nn

from initfast.interception.deferred_tensor import DeferredTensor
from initfast.interception.queue import Queue
from initfast.profiling.profile import profile
from initfast.profiling.profiler import Profiler

PATIENCE = 60  # seconds until a test that has stopped fails


def test_another_thread_uses_a_pending():
    layer = linear()

    def function(x):
        z, found = layer(x), []
        thread = threading.Thread(target=lambda: found.append(z + 1))
        thread.start()
        thread.join()
        return found[0]

    same(function, x_of(4, 5))


@pytest.mark.parametrize("ask", [lambda layer, x: layer(x), lambda layer, x: layer(x).tanh()])
def test_threads_that_use_one_pending_at_once(ask, monkeypatch):
    layer, asked = linear(), []
    plainly = Queue.evaluate

    def slowly(queue, z):
        asked.append(z)
        time.sleep(0.02)
        return plainly(queue, z)

    monkeypatch.setattr(Queue, "evaluate", slowly)

    def function(x):
        z = ask(layer, x)
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda i: (z + i).detach(), range(4)))

    report = same(function, x_of(4, 5))
    assert len(asked) == 1
    assert [row.op for row in report if row.op.startswith("linear")] == [report.layers[0].op]


def profiled(net, x):
    """What the net returns while it is profiled, as ordinary tensors."""
    results = []
    profile(lambda x: results.extend(net(x)), x)
    return results


@pytest.mark.parametrize("line", range(4))  # before it holds the lock
def test_a_result_that_gets_its_value_at_any_line_of_another_threads_resolve(line):
    layer, x = linear(), x_of(4, 5)
    reached, settled = threading.Event(), threading.Event()

    def stop_there(frame, event, _):
        if frame.f_code is not DeferredTensor.resolve.__code__:
            return None
        lines = itertools.count()

        def at_a_line(frame, event, _):
            if event == "line" and next(lines) == line:
                reached.set()
                assert settled.wait(PATIENCE)
            return at_a_line

        return at_a_line

    def net(x):
        z = layer(x)

        def use():
            sys.settrace(stop_there)
            try:
                return (z + 1).detach()
            finally:
                sys.settrace(None)

        with ThreadPoolExecutor(1) as pool:
            used = pool.submit(use)
            assert reached.wait(PATIENCE)
            mine = z * 2
            settled.set()
            return mine, used.result()

    mine, theirs = profiled(net, x)
    with torch.no_grad():
        torch.testing.assert_close(mine, layer(x) * 2)
        torch.testing.assert_close(theirs, layer(x) + 1)


GO_ON = {
    "linear": lambda layer, x, z: layer(x),
    "activation": lambda layer, x, z: torch.tanh(z),
    "other use": lambda layer, x, z: z + 1,
    "change": lambda layer, x, z: x.neg_(),
}


@pytest.mark.parametrize("go_on", GO_ON.values(), ids=GO_ON)
def test_the_net_waits_while_another_thread_runs_what_waits(go_on, monkeypatch):
    layer, x = linear(), x_of(4, 5)
    running, gone_on, waited = threading.Event(), threading.Event(), []
    plainly = Queue.evaluate

    def evaluate(queue, z):
        if threading.current_thread() is not threading.main_thread():
            running.set()
            waited.append(not gone_on.wait(0.1))
        return plainly(queue, z)

    monkeypatch.setattr(Queue, "evaluate", evaluate)

    def net(x):
        z, other = layer(x), layer(x)
        with ThreadPoolExecutor(1) as pool:
            used = pool.submit(lambda: (z + 1).detach())
            assert running.wait(PATIENCE)
            go_on(layer, x, other)
            gone_on.set()
            return [used.result()]

    with torch.no_grad():
        expected = layer(x) + 1
        (result,) = profiled(net, x)
    assert waited == [True]
    torch.testing.assert_close(result, expected)


# ---- nets that two threads measure ----


class Meanwhile(nn.Module):
    """While it runs, another thread runs its inner module too."""

    def __init__(self, inner, meanwhile):
        super().__init__()
        self.inner, self.meanwhile = inner, meanwhile

    def forward(self, x):
        y = self.inner(x)
        with ThreadPoolExecutor(1) as other:
            other.submit(self.meanwhile, self.inner, x).result()
        return self.inner(y)


def of_a_profiler(net, x):
    with Profiler(net) as profiler:
        net(x)
    return profiler.report()


@pytest.mark.parametrize("measured", [profile, of_a_profiler])
@pytest.mark.parametrize("middle", [nn.BatchNorm1d(5), nn.Bilinear(5, 5, 5), nn.Identity()])
def test_a_net_that_two_threads_measure_is_measured_for_each_alone(measured, middle):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.middle, self.layer = middle, nn.Linear(5, 5)

        def forward(self, x):
            args = (x, x) if isinstance(self.middle, nn.Bilinear) else (x,)
            return torch.tanh(self.layer(self.middle(*args)))

    def rows(report):
        return [(layer.name, layer.op, layer.also) for layer in report]

    inner, x, inside = Inner(), x_of(4, 5), []
    plain = rows(profile(Meanwhile(inner, lambda *_: None), x))
    alone = rows(measured(inner, x))
    net = Meanwhile(inner, lambda *both: inside.append(measured(*both)))
    assert rows(profile(net, x)) == plain
    assert rows(inside[0]) == alone
