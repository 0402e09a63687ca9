"""One call in the place of every module's: whoever else has one, hooks, copies, odd classes."""

import copy
import gc
import sys
import threading
import weakref

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import batch, output_of
from torch import nn

import initfast
from initfast.interception.module_calls import CALL, ReplacedCall
from initfast.profiling.profile import profile
from initfast.recording.recorder import Recorder


def pair():
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh())


# ---- several at once ----


def length(module):
    """How many replaced calls a module has."""
    call, count = vars(module).get(CALL), 0
    while isinstance(call, ReplacedCall):
        call, count = call.before, count + 1
    return count


def test_calls_are_released_in_any_order():
    net, x = pair(), batch(4, 8)
    open_one = initfast.Profiler(net)
    open_one.__enter__()
    for _ in range(600):
        later = initfast.Profiler(net)
        later.__enter__()
        open_one.__exit__(None, None, None)
        open_one = later
        assert length(net) == 1
    net(x)
    assert open_one.calls == 1
    open_one.__exit__(None, None, None)
    assert length(net) == 0


def test_two_profilers_of_one_net_see_every_call():
    net, x = pair(), batch(4, 8)
    first, second = initfast.Profiler(net), initfast.Profiler(net)
    first.__enter__()
    second.__enter__()
    net(x)
    first.__exit__(None, None, None)
    net(x)
    second.__exit__(None, None, None)
    net(x)
    assert (first.calls, second.calls) == (1, 2)
    assert CALL not in vars(net)


def test_profiles_of_one_net_in_several_threads():
    net, x, failed, interval = pair(), batch(4, 8), [], sys.getswitchinterval()

    def work():
        try:
            for _ in range(40):
                report = profile(net, x)
                assert [layer.op for layer in report] == ["linear + tanh"]
                assert length(net) <= 4
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failed
    assert all(CALL not in vars(module) for module in net.modules())


# ---- hooks ----


def test_what_a_forward_gets_after_a_pre_hook_is_its_input():
    net = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1))
    net[0].register_forward_pre_hook(lambda module, args: (args[0] * 10,))
    x = batch(4, 4, 16)
    (layer,) = profile(net, x)
    assert layer.input.std == pytest.approx((10 * x).std().item())


def test_a_pre_hook_that_changes_the_shape():
    net = nn.Sequential(nn.LSTM(4, 3, batch_first=True))
    net[0].register_forward_pre_hook(lambda module, args: (args[0][:, :8],))
    assert profile(net, batch(2, 16, 4))[0].input_shape == (2, 8, 4)


def test_what_a_backward_hook_wraps_is_one_layer():
    net = nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1))
    for module in net:
        module.register_full_backward_hook(lambda *_: None)
    net[0].register_forward_hook(lambda *_: None)
    report = profile(net, batch(4, 8), loss=torch.sum)
    ops = [(layer.name, layer.op) for layer in report]
    assert ops == [("0", "linear"), ("1", "softmax"), ("", "Sequential")]
    assert all(layer.is_output for layer in report)


# ---- odd modules ----


def test_a_bias_of_a_type_of_its_own_is_asked():
    class Hundredfold(nn.Parameter):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func is F.linear:
                with torch._C.DisableTorchFunctionSubclass():
                    return func(args[0], args[1], args[2] * 100)
            return super().__torch_function__(func, types, args, kwargs or {})

    net, x = nn.Sequential(nn.Linear(8, 8), nn.Flatten()), batch(4, 8)
    net[0].bias = Hundredfold(torch.ones(8))
    with torch.no_grad():
        expected = net(x)
    torch.testing.assert_close(output_of(net, x)[0], expected)


class Stated(nn.Module):
    """Its state is all that it has, as of a module written by hand."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def __getstate__(self):
        return dict(self.__dict__)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("make", [Stated, lambda: torch.fx.symbolic_trace(Stated())])
def test_a_copy_of_all_attributes_made_in_a_forward(make):
    class Copying(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make()

        def forward(self, x):
            self.__dict__["copied"] = copy.deepcopy(self.inner)
            return self.copied(x)

    net, x = Copying(), batch(4, 8)
    with torch.no_grad():
        expected = net(x)
    torch.testing.assert_close(output_of(net, x)[0], expected)
    torch.testing.assert_close(net.copied(x).detach(), expected)
    with initfast.Profiler(net):
        assert copy.deepcopy(net) is not net


@pytest.mark.parametrize("profiles", [profile, initfast.Profiler])
def test_a_lazy_module_has_the_name_of_what_it_becomes(profiles):
    net, x = nn.Sequential(nn.LazyConv1d(4, 3), nn.ReLU()), batch(2, 3, 9)
    if profiles is profile:
        net(x)
        report = profile(net, x)
    else:
        with initfast.Profiler(net) as p:
            net(x)
        report = p.report()
    assert report[0].op == "Conv1d + relu" and report[0].is_output


class PastTheCall(nn.LSTM):
    def __call__(self, *args):
        return self._call_impl(*args)


class ThroughTheCall(nn.LayerNorm):
    def __call__(self, x):
        return super().__call__(x) + 1


def test_classes_with_a_call_of_their_own():
    net, x = nn.Sequential(PastTheCall(4, 3), nn.Identity()), batch(2, 5, 4)
    names = [layer.name for layer in profile(net[0], x)]
    assert names == [""] * 3
    net = nn.Sequential(ThroughTheCall(4), nn.Tanh())
    with torch.no_grad():
        expected = net(x)
    output, report = output_of(net, x)
    torch.testing.assert_close(output, expected)
    assert [layer.op for layer in report] == ["ThroughTheCall", "tanh"]
    assert all(not module._forward_hooks for module in net.modules())


def test_a_copy_by_hand_keeps_nothing_of_a_profile(monkeypatch):
    recorders, plainly = [], Recorder.__init__

    def noted(self, *args, **kwargs):
        recorders.append(weakref.ref(self))
        plainly(self, *args, **kwargs)

    monkeypatch.setattr(Recorder, "__init__", noted)

    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.copies = nn.Linear(8, 8), []

        def forward(self, x):
            clone = nn.Linear.__new__(nn.Linear)
            clone.__dict__ = self.linear.__dict__.copy()
            self.copies.append(clone)
            return self.linear(x)

    net, x = Keeping(), batch(4, 8)
    for _ in range(3):
        profile(net, x).to_dict()
    gc.collect()
    assert len(recorders) == 3 and all(ref() is None for ref in recorders)
    torch.testing.assert_close(net.copies[0](x), net.linear(x))


def by_hand(module):
    clone = module.__new__(type(module))
    clone.__dict__ = module.__dict__.copy()
    clone._modules = {"linear": nn.Linear(8, 8)}
    return clone


@pytest.mark.parametrize("how", [copy.deepcopy, by_hand])
def test_a_copy_that_has_a_call_is_profiled_itself(how):
    net, x = Stated(), batch(4, 8)
    with initfast.Profiler(net):
        copied = how(net)
    with torch.no_grad():
        copied.linear.weight.fill_(0.5)
        expected = copied(x)
    torch.testing.assert_close(output_of(copied, x)[0], expected)
    with initfast.Profiler(copied) as p, torch.no_grad():
        torch.testing.assert_close(copied(x), expected)
    assert p.calls == 1 and CALL not in vars(copied)


def test_a_method_called_without_the_module_has_the_callers_name():
    class Inner(nn.Module):
        def encode(self, x):
            return torch.tanh(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner.encode(x)

    net = nn.Sequential(Outer())
    assert [layer.name for layer in profile(net, batch(4, 8))] == ["0"]


def test_an_output_is_measured_once_where_the_net_shows_memory_to_others():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.act = nn.Linear(8, 8), nn.Tanh()

        def forward(self, x):
            x.numpy()
            return self.act(self.linear(x))

    with initfast.Profiler(net := Net()) as p:
        net(batch(4, 8))
    assert [(layer.name, layer.op) for layer in p.report()] == [("linear", "linear + tanh")]
