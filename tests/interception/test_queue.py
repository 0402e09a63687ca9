"""Chains of small layers that wait to run as one operator: nobody can tell that they wait."""

import gc

import pytest
import torch
import torch.nn.functional as F
from cases.changes import CHANGES
from cases.profiles import close, linear, run, same, x_of
from torch import nn

from initfast.interception import deferred_tensor
from initfast.profiling.profile import profile
from initfast.recording.recorder import Recorder


@pytest.fixture
def chains(monkeypatch):
    """How many layers each chain that runs has."""
    lengths = []
    plainly = Recorder.linear_act_chain

    def counted(recorder, x, kernels, layers):
        lengths.append(len(layers))
        return plainly(recorder, x, kernels, layers)

    monkeypatch.setattr(Recorder, "linear_act_chain", counted)
    return lengths


class Loop(nn.Module):
    def __init__(self, step, depth=6, width=7):
        super().__init__()
        self.layers = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.step = step

    def forward(self, x):
        for layer in self.layers:
            x = self.step(layer, x)
        return x


def named(layer, x):
    z = layer(x)
    y = torch.tanh(z)
    return y


STEPS = {
    "nested": lambda layer, x: torch.tanh(layer(x)),
    "method": lambda layer, x: layer(x).tanh(),
    "names": named,
    "module": lambda layer, x: nn.ReLU()(layer(x)),
    "keywords": lambda layer, x: F.gelu(input=layer(input=x), approximate="tanh"),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_loop_runs_as_one_chain_with_the_same_numbers(step, chains):
    net, x = Loop(step), x_of(4, 7)
    report = same(net, x)
    assert chains == [6]
    with torch.no_grad():
        for layer, module in zip(report, net.layers, strict=True):
            z, x = module(x), step(module, x)
            assert close(layer.pre, z.double()) and close(layer.post, x.double())


def test_a_chain_ends_where_work_is_large(chains, monkeypatch):
    monkeypatch.setattr(deferred_tensor, "MULTIPLY_ADDS", 4 * 7 * 7)
    same(Loop(STEPS["nested"]), x_of(4, 7), ops=["linear + tanh"] * 6)
    assert chains == []


@pytest.mark.parametrize("change", CHANGES)
def test_change_after_a_chain_was_asked_for(change):
    def function(x):
        first, second = linear(), linear(7, 7)
        y = torch.tanh(second(torch.relu(first(x))))
        change(x, first)
        return y, x

    same(function, x_of(4, 5), ops=None)


@pytest.mark.parametrize("change", CHANGES)
def test_change_between_the_layers_of_a_chain(change):
    def function(x):
        layer, second = linear(), linear(7, 7)
        h = torch.relu(layer(x))
        change(x, layer)
        return torch.tanh(second(h)), h, x

    same(function, x_of(4, 5))


def test_results_inside_a_chain_that_somebody_holds(chains):
    a, b, c = linear(), linear(7, 7), linear(7, 7)

    def function(x):
        h = torch.relu(a(x))
        z = b(h)
        u = torch.tanh(z)
        y = torch.sigmoid(c(u))
        return y, u, z, h

    same(function, x_of(4, 5), ops=["linear + relu", "linear + tanh", "linear + sigmoid"])


def test_one_result_that_two_layers_read():
    a, b, c = linear(), linear(7, 7), linear(7, 7)

    def function(x):
        h = torch.relu(a(x))
        left, right = torch.tanh(b(h)), torch.sigmoid(c(h))
        del h
        gc.collect()
        return right - left

    report = same(function, x_of(4, 5))
    assert [layer.op for layer in report][:3] == [
        "linear + relu",
        "linear + tanh",
        "linear + sigmoid",
    ]


def test_layers_are_reported_in_the_order_in_which_they_were_asked_for():
    a, b = linear(), linear(5, 7)

    def function(x):
        left, right = torch.tanh(a(x)), torch.relu(b(x))
        return right * 2, left * 2  # used in the other order

    same(function, x_of(4, 5), ops=["linear + tanh", "linear + relu"])


def test_a_residual_sum_a_norm_and_a_convolution_end_a_chain():
    a, b, norm = linear(7, 7), linear(7, 7), nn.LayerNorm(7)

    def function(x):
        h = torch.relu(a(x))
        h = h + torch.tanh(b(h))
        return torch.relu(b(norm(h)))

    same(function, x_of(4, 7))


def test_in_place_activation_at_the_end_of_a_chain():
    a, b = linear(), linear(7, 7)

    def function(x):
        h = torch.tanh(a(x))
        z = b(h)
        F.relu_(z)
        return h, z

    same(function, x_of(4, 5), ops=["linear + tanh", "linear + relu"])


def test_in_place_change_of_a_result_inside_a_chain():
    a, b = linear(), linear(7, 7)

    def function(x):
        h = torch.tanh(a(x))
        y = torch.relu(b(h))
        h.zero_()
        return y, h, torch.relu(b(h))

    same(function, x_of(4, 5))


def test_control_flow_on_a_value_inside_a_chain():
    def function(x):
        for _ in range(4):
            x = torch.tanh(linear(7, 7)(x))
            if x.abs().max() < 0.5:
                x = x * 2
            if torch.isnan(x.std()):
                break
        return x

    same(function, x_of(4, 7))


def test_shapes_are_known_before_values():
    a, b = linear(), linear(7, 3)

    def function(x):
        h = torch.tanh(a(x))
        y = torch.relu(b(h))
        assert h.shape == (2, 4, 7) and y.shape == (2, 4, 3) and y.dtype == torch.float32
        assert y.numel() == 24 and len(y) == 2 and y.dim() == 3 and y.is_contiguous()
        return y

    same(function, x_of(2, 4, 5))


def test_a_mismatch_inside_a_chain_names_its_layer():
    net = nn.Sequential()
    net.a, net.b = linear(5, 7), linear(6, 3)
    net.forward = lambda x: torch.relu(net.b(torch.tanh(net.a(x))))
    with pytest.raises(RuntimeError) as error:
        profile(net, x_of(4, 5))
    assert any("'b'" in note and "[..., 6]" in note for note in error.value.__notes__)


def test_what_a_chain_made_is_an_ordinary_tensor_afterwards():
    result, _ = run(lambda x: [torch.tanh(linear()(x)), torch.relu(linear()(x))], x_of(4, 5))
    for y in result:
        assert type(y) is torch.Tensor
        assert y.sum().isfinite()


def test_a_forward_that_raises_leaves_ordinary_tensors():
    kept = []

    def function(x):
        kept.append(torch.tanh(linear()(x)))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        profile(function, x_of(4, 5))
    with torch.no_grad():
        torch.testing.assert_close(kept[0], torch.tanh(linear()(x_of(4, 5))))
    assert type(kept[0]) is torch.Tensor


def test_gradients_switched_on_inside_end_a_chain():
    a, b = linear(), linear(7, 7)

    def function(x):
        h = torch.tanh(a(x))
        with torch.enable_grad():
            y = torch.relu(b(h))
            (gradient,) = torch.autograd.grad(y.sum(), b.weight)
        return y.detach(), gradient

    same(function, x_of(4, 5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_cast_inside_ends_a_chain(dtype):
    a, b = linear(), linear(7, 7)

    def function(x):
        h = torch.tanh(a(x))
        with torch.autocast("cpu", torch.bfloat16):
            y = torch.relu(b(h))
        return y.to(dtype)

    same(function, x_of(4, 5))


def test_stop_at_nonfinite_does_not_wait(chains):
    net = Loop(STEPS["nested"])
    with torch.no_grad():
        net.layers[2].weight[0, 0] = torch.nan
    report = profile(net, x_of(4, 7), stop_at_nonfinite=True)
    assert len(report) == 3 and report.first_nonfinite.name == "layers.2"
    assert chains == []


def test_a_layer_that_the_kernels_do_not_do_follows_a_deferred_one():
    a, weight, bias = linear(), x_of(7, 5), x_of(1)

    def function(x):
        h = torch.relu(a(x))
        z = F.linear(x, weight, bias)  # the bias broadcasts
        return h, z, torch.tanh(a(x))

    same(function, x_of(4, 5), ops=["linear + relu", "linear", "linear + tanh"])


def test_a_weight_that_a_layer_made():
    hyper = linear(3, 35)
    report = same(lambda x: torch.relu(F.linear(x, hyper(x_of(3)).view(7, 5))), x_of(4, 5))
    assert report.layers[-1].weight is not None


@pytest.mark.parametrize("write", [lambda h: h.data.mul_(100), lambda h: h.numpy().__imul__(100)])
def test_a_write_that_no_version_counts(write):
    a, b = linear(), linear(7, 7)

    def function(x):
        h = torch.relu(a(x))
        write(h)
        return b(h)

    report = same(function, x_of(4, 5))
    with torch.no_grad():
        assert close(report.layers[-1].input, 100 * torch.relu(a(x_of(4, 5))).double())
