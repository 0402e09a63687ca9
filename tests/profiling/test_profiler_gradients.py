"""Profiler: which backwards fill the gradients, and what of them."""

import pytest
import torch
from cases.unchanged import attributes
from ranks.merge import BATCH, net, whole_batch
from torch import nn

import initfast
from initfast.stats.moments import Moments


def close(moments, expected):
    """Whether they are the moments of these values."""
    truth = Moments.of(expected.detach().contiguous())
    assert moments.count == truth.count
    assert moments.mean == pytest.approx(truth.mean, rel=1e-9, abs=1e-12)
    assert moments.std == pytest.approx(truth.std, rel=1e-9)
    return True


def test_one_backward_through_two_calls():
    """As of a contrastive loss: each call has the gradients at its outputs."""
    model, (a, b) = net(), whole_batch().split(BATCH // 2)
    before = attributes(model)
    with initfast.Profiler(model) as p:
        first, second = model(a), model(b)
        first.retain_grad()
        second.retain_grad()
        (first - 2 * second).square().mean().backward()
        model(a)  # without a backward
    report = p.report()
    assert attributes(model) == before
    assert report[-1].post.count == 3 * second.numel()
    close(report[-1].grad, torch.cat([first.grad, second.grad]))
    close(report[0].weight_grad, torch.cat([model[0].weight.grad] * 2))


def test_calls_wait_for_a_backward_but_not_all():
    model = net()
    with initfast.Profiler(model) as p:
        outputs = [model(whole_batch()) for _ in range(10)]
        assert len(p._recent) == 8
        torch.stack(outputs).sum().backward()
        assert p.report()[-1].grad.count == 8 * outputs[0].numel()
        with torch.no_grad():
            model(whole_batch())
            model(whole_batch())
        assert len(p._recent) == 1
    assert p.report()[-1].post.count == 12 * outputs[0].numel()


def test_a_penalty_on_gradients_is_a_part_of_the_loss():
    model, x, seen = net(), whole_batch().requires_grad_(), []
    with initfast.Profiler(model) as p:
        y = model(x)
        y.register_hook(seen.append)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (y.mean() + slope.square().mean()).backward()
    assert close(p.report()[-1].grad, seen[-1])
    assert close(p.report()[0].weight_grad, model[0].weight.grad)


def test_a_backward_that_makes_a_graph_is_measured_where_no_other_follows():
    model = net()
    with initfast.Profiler(model) as p:
        loss = model(whole_batch()).square().sum()
        weights = [model[0].weight, model[2].weight]
        grads = torch.autograd.grad(loss, weights, create_graph=True)
        assert close(p.report()[0].weight_grad, grads[0])
        sum(grad.square().sum() for grad in grads).backward()
    assert close(p.report()[0].weight_grad, weights[0].grad)


def test_gradients_are_divided_by_the_scale_of_their_step():
    model, factors = net(), [1024.0, 64.0]
    scaler = torch.amp.GradScaler("cpu", init_scale=factors[0])
    outputs, weights = [], []
    with initfast.Profiler(model, scaler=scaler) as p:
        for factor in factors:
            model.zero_grad()
            outputs.append(model(whole_batch()))
            outputs[-1].retain_grad()
            scaler.scale(outputs[-1].square().mean()).backward()
            weights.append(model[0].weight.grad / factor)
            scaler.update(factors[1])
    grads = [y.grad / factor for y, factor in zip(outputs, factors, strict=True)]
    assert close(p.report()[-1].grad, torch.cat(grads))
    assert close(p.report()[0].weight_grad, torch.cat(weights))
    with pytest.raises(TypeError, match=r"Profiler: scaler is a float; expected a torch.amp.Grad"):
        initfast.Profiler(nn.Tanh(), scaler=2.0)
