"""Profiler(optimizer=): what the optimiser's steps do to the parameters."""

import json

import pytest
import torch
from torch import nn

import initfast
from initfast import Profiler
from initfast.report.report import Report


def rms_of(values):
    return values.double().square().mean().sqrt().item()


def test_a_step_of_several_calls_counts_once():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    expected = {}
    with Profiler(net, every=4, optimizer=optimizer) as p:  # every second step of two calls
        for step in range(4):
            for x in torch.randn(2, 16, 4):
                (net(x).square().mean() / 2).backward()
            before = {n: (v.detach().clone(), v.grad.clone()) for n, v in net.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()
            for name, parameter in net.named_parameters() if step == 2 else ():
                old, grad = before[name]
                change = rms_of(parameter.detach() - old) / rms_of(old)
                expected[name] = pytest.approx((change, rms_of(grad)), rel=1e-12)
    report = p.report()
    assert report.outcome.updates == expected and len(expected) == 4
    ratio = report.scalars()["initfast/updates/2.weight/to_weight"]
    assert ratio == report.outcome.updates["2.weight"].to_weight
    again = Report.from_dict(json.loads(report.to_json()))
    assert again.outcome.updates == report.outcome.updates
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="optimizer is a float; expected a torch"):
        initfast.Profiler(nn.Linear(2, 2), optimizer=0.1)
