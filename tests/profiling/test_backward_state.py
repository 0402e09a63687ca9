"""profile(loss=): nothing is left of the backward, and bad arguments are refused."""

import math

import pytest
import torch
from cases.profiles import WIDTH, batch
from cases.unchanged import Stateful, equal, notes, state
from nets.with_gradients import assert_close, assert_true, loss_of, make, truth_of
from torch import nn

from initfast.profiling.profile import profile


@pytest.mark.parametrize("fails", [None, "forward", "loss", "backward"])
def test_the_net_is_left_as_it_was(fails):
    error = ValueError("no")
    net = Stateful(error if fails == "forward" else None).train()
    seen = []
    net.first.weight.grad = kept = torch.ones(WIDTH, WIDTH)
    handle = net.first.weight.register_hook(lambda g: seen.append("tensor"))
    net.last.weight.register_post_accumulate_grad_hook(lambda p: seen.append("accumulated"))
    before = state(net)

    def raising(grad):
        raise error

    def loss(y):
        if fails == "loss":
            raise error
        if fails == "backward":
            y.register_hook(raising)
        return y.square().mean()

    if fails is None:
        report = profile(net, batch(8, WIDTH), loss=loss)
        assert report["norm"].grad is not None
        assert seen == ["tensor"]
    else:
        with pytest.raises(ValueError, match="no") as raised:
            profile(net, batch(8, WIDTH), loss=loss)
        words = {"forward": "in layer", "loss": "in loss", "backward": "in the backward"}
        assert f"raised {words[fails]}" in notes(raised.value)
        assert notes(raised.value).count("raised") == 1
    assert equal(state(net), before)
    assert net.first.weight.grad is kept and net.last.weight._backward_hooks is None
    assert list(net.first.weight._backward_hooks.values())
    handle.remove()


def test_module_hooks_of_the_user_run_and_stay():
    net, x = make("sequential"), batch(6, WIDTH).double()
    seen = []
    handle = net[2].register_full_backward_hook(
        lambda module, gin, gout: seen.append(gout[0].shape)
    )
    report = profile(net, x, loss=loss_of)
    assert seen == [(6, WIDTH)] and list(net[2]._backward_hooks) == [handle.id]
    _, weights = truth_of(net, x)
    assert_close(report["2"].weight_grad, weights["2.weight"])


@pytest.mark.parametrize(
    "loss, kind, words",
    [
        (3.0, TypeError, "loss is a float; expected a function"),
        (lambda y: 3.0, TypeError, "loss returned a float; expected a tensor of one number"),
        (lambda y: y, ValueError, r"shape \[6, 3\]; expected a scalar"),
        (lambda y: y.detach().sum(), ValueError, "without a graph"),
        (lambda y: y.argmax(), TypeError, "torch.int64"),
        (lambda y: y.sum() * 1j, TypeError, "torch.complex128"),
    ],
)
def test_a_loss_that_is_none(loss, kind, words):
    net = make("sequential")
    before = state(net)
    with pytest.raises(kind, match=words) as raised:
        profile(net, batch(6, WIDTH).double(), loss=loss)
    assert "raised in" not in notes(raised.value)
    assert equal(state(net), before)


def test_arguments_that_do_not_go_together():
    net, x = make("sequential"), batch(6, WIDTH).double()
    with pytest.raises(TypeError, match="targets is given without a loss"):
        profile(net, x, targets=x)
    with pytest.raises(TypeError, match="scaler is given without a loss"):
        profile(net, x, scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(TypeError, match="scaler is a int; expected"):
        profile(net, x, loss=loss_of, scaler=3)
    with pytest.raises(ValueError, match="without a graph"):
        profile(net.requires_grad_(False), x, loss=loss_of)


def test_a_loss_that_is_not_finite_is_no_error():
    net, x = make("sequential"), batch(6, WIDTH).double()
    report = profile(net, x, loss=lambda y: y.sum() * math.inf)
    assert report[-1].grad.nonfinite == 18


def test_under_no_grad_and_inference_mode():
    net, x = make("sequential"), batch(6, WIDTH).double()
    truth = truth_of(net, x)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert_true(profile(net, x, loss=loss_of), net, truth)


def test_what_no_graph_can_hold_is_named():
    net, x = nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, 3)), batch(6, WIDTH)
    with torch.inference_mode():
        other = nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, 3))
        made, targets = {"input": x.clone()}, {"targets": torch.zeros(6, 3)}
        again = profile(other, made)  # without a loss it may be
    assert len(again) == 2
    before = state(net)
    mse = nn.functional.mse_loss
    for what, arguments in {
        r"x\['input'\] is an inference tensor": (net, made, mse, {}),
        "targets is an inference tensor": (net, x, mse, targets),
        r"layer '1' \(Linear\): its weight is an inference tensor": (other, x, torch.sum, {}),
    }.items():
        net_, x_, loss, others = arguments
        for mode in (torch.enable_grad(), torch.inference_mode()):
            with (
                mode,
                pytest.raises(ValueError, match=f"{what}.*made outside torch.inference"),
            ):
                profile(net_, x_, loss=loss, **others)
    with pytest.raises(ValueError, match='with backward="random" what was made outside'):
        profile(net, made, backward="random")
    assert equal(state(net), before)


def test_without_a_loss_nothing_has_a_gradient():
    report = profile(make("sequential"), batch(6, WIDTH).double())
    assert all(layer.grad is layer.weight_grad is None for layer in report)


def test_a_stop_at_a_non_finite_value_comes_before_the_backward():
    net, x = make("sequential"), batch(6, WIDTH).double() * math.inf
    report = profile(net, x, loss=loss_of, stop_at_nonfinite=True)
    assert len(report) == 1 and report[0].grad is None
