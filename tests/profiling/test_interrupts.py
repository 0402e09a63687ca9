"""Ctrl-C at any moment of a profile: what it leaves behind.

A sample of the places is tried; INITFAST_EVERY_INTERRUPT=1 tries all of them.
"""

import inspect
import os
import random
import signal
import threading
import time
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from cases import interrupts
from cases.interrupts import Interrupt, swallowed
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from initfast.profiling.profile import profile
from initfast.profiling.profiler import Profiler
from initfast.undo_log import UndoLog, with_undo_log

SAMPLE = None if os.environ.get("INITFAST_EVERY_INTERRUPT") == "1" else 25


class Called(nn.Module):
    """Has a call of its own, which goes past the hooks."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def __call__(self, x):
        return self.inner(x).relu()


class Squares(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class Odd(nn.Module):
    """Sums, views, exports, functions, casts, transforms, a buffer put for another."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("count", torch.zeros(()))
        self.kept = None

    def forward(self, x):
        self.count = self.count + 1
        z = self.a(x)
        y = F.gelu(z) + x
        with torch.autocast("cpu", torch.bfloat16):
            y = y + torch.tanh(self.b(y)).float()
        y = Squares.apply(y + torch.vmap(lambda row: torch.tanh(self.a(row)))(x))
        return y + torch.from_dlpack(z.detach()).clone() + torch.jit.trace(torch.sin, y)(y)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, x):
        x = checkpoint(self.b, self.a(x), use_reentrant=True)
        return checkpoint(self.b, torch.relu(x), use_reentrant=False)


class Raising(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        torch.relu(self.a(x)).view(-1, 3)


def plain():
    return nn.Sequential(
        nn.Linear(4, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4)
    )


def hooked():
    net = plain()
    net[0].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    net[1].register_forward_hook(lambda module, args, y: y * 2)
    net[2].register_full_backward_hook(lambda module, given, got: None)
    net[4].weight.register_hook(lambda grad: None)
    net[4].weight.grad = torch.ones(4, 4)
    return net


def parametrized():
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(4, 4)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(4, 4)),
        Called(),
    )


def non_finite():
    net = plain()
    with torch.no_grad():
        net[2].weight[0] = torch.inf
    return net


def watched(net, x):
    """Two measured calls with their backwards, and one that is not measured."""
    with Profiler(net, every=2) as p:
        for _ in range(3):
            torch.autograd.grad(net(x).sum(), list(net.parameters()))
    return p.report()


with_loss = partial(profile, loss=torch.sum)
RUNS = {
    "plain": (plain, profile),
    "loss": (plain, with_loss),
    "stops": (non_finite, partial(profile, stop_at_nonfinite=True)),
    "hooks": (hooked, with_loss),
    "parametrizations": (parametrized, with_loss),
    "odd": (Odd, profile),
    "odd, loss": (Odd, with_loss),
    "checkpoints": (Checkpointed, with_loss),
    "raises": (Raising, profile),
    "Profiler": (parametrized, watched),
    "Profiler, norms": (plain, watched),
}


def shown(run):
    """The report of a run, or what it raises."""
    try:
        return str(run())
    except RuntimeError as error:
        return str(error)


# An interrupt as a context's end is called keeps the context active, which is documented.
ENDS = (Profiler.__exit__.__code__,)
# What the net itself calls, and torch does not leave as found when it is interrupted there:
# a cast, a transform and a checkpoint's hooks stay in force, and a trace ends the process.
TORCHS_OWN = tuple(
    inspect.unwrap(function).__code__
    for function in (
        torch.autocast.__enter__,
        torch.autocast.__exit__,
        torch._functorch.vmap.vmap_impl,
        torch.utils.checkpoint._checkpoint_without_reentrant_generator,
        torch.jit.trace,
    )
)

HELD_BY_THE_ERROR = {"saved tensors"}
"""What ends with the error: torch's checkpoint is a generator that the error's frames hold."""


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.filterwarnings("ignore")
def test_an_interrupt_leaves_the_net_and_torch_as_found(name):
    build, function = RUNS[name]
    net, x = build(), torch.ones(3, 4) / 3
    run = partial(function, net, x)
    interrupt = partial(Interrupt, never_called=ENDS, within=TORCHS_OWN)
    for _ in range(3):
        expected = shown(run)  # what the first runs cache is there afterwards
    counting = interrupt()
    counting.during(run)
    places = range(counting.count)
    if SAMPLE is not None:
        places = sorted(random.Random(0).sample(places, min(SAMPLE, len(places))))
    of_the_net, of_torch = interrupts.of_the_net(net), interrupts.of_torch()
    numbers = interrupts.numbers(net)
    for at in places:
        one = interrupt(at)
        with swallowed() as unraised:
            error, _ = one.during(run)
        place = f"place {at}: {one.place}"
        is_raised = type(error) is KeyboardInterrupt or KeyboardInterrupt in unraised
        assert is_raised or one.place is None, (place, error)
        left = interrupts.changed(of_torch, interrupts.of_torch())
        assert set(left) <= HELD_BY_THE_ERROR, (place, left)
        error = None  # what it holds may end something, too
        assert not interrupts.changed(of_torch, interrupts.of_torch()), place
        assert not interrupts.changed(of_the_net, interrupts.of_the_net(net)), place
        if function is not watched:
            assert not interrupts.changed(numbers, interrupts.numbers(net)), place
            assert shown(run) == expected, place


@pytest.fixture
def ctrl_c_interrupts():
    """SIGINT raises, also where the process was started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_at_any_time():
    net, x, chosen = hooked(), torch.ones(3, 4) / 3, random.Random(0)
    run = partial(with_loss, net, x)
    expected = shown(run)
    start = time.perf_counter()
    shown(run)
    duration = time.perf_counter() - start
    of_the_net, of_torch = interrupts.of_the_net(net), interrupts.of_torch()
    numbers, count = interrupts.numbers(net), 0
    for _ in range(40):
        timer = threading.Timer(chosen.uniform(0, duration), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            run()
            timer.join()
            time.sleep(1)  # the signal is handled here at the latest
        except KeyboardInterrupt:
            count += 1
        assert not interrupts.changed(of_torch, interrupts.of_torch())
        assert not interrupts.changed(of_the_net, interrupts.of_the_net(net))
        assert not interrupts.changed(numbers, interrupts.numbers(net))
    assert count == 40 and shown(run) == expected


def test_one_undo_that_is_interrupted_is_repeated():
    done, log = [], UndoLog()

    def interrupted():
        done.append("first")
        if done == ["last", "first"]:
            raise KeyboardInterrupt

    log.add(done.append, "never lost")
    log.add(interrupted)
    log.add(done.append, "last")
    with pytest.raises(KeyboardInterrupt):
        log.undo()
    assert done == ["last", "first", "first", "never lost"]
    log.undo()
    assert len(done) == 4


def test_what_fails_to_be_undone_keeps_nothing_else_from_it():
    done = []

    def body(log, error=None):
        log.add(done.append, "undone")
        log.add(torch.ones(1).view, 2)
        if error is not None:
            raise error

    with pytest.raises(RuntimeError, match="invalid for input"):
        with_undo_log(body)
    with pytest.raises(ValueError, match="its own"):
        with_undo_log(partial(body, error=ValueError("its own")))
    assert done == ["undone", "undone"]
