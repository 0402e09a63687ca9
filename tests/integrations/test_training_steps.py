"""TrainingSteps: what is measured of an optimiser step, in a loop of one's own."""

import pytest
import torch
from torch import nn

from initfast.integrations.training_steps import TrainingSteps


class Parts(nn.Module):
    """Only its parts are called, as in a training_step."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.encoder(x))

    def in_parts(self, x):
        return self.head(self.encoder(x))


def rms_of(values):
    return values.double().square().mean().sqrt().item()


def train(steps, net, call, updates=3, accumulate=2):
    """Yields after each measured update, as a Trainer's callbacks are called."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    batches = torch.randn(updates * accumulate, 5, 4)
    for i, x in enumerate(batches):
        steps.begin(net, i // accumulate)
        (call(x).square().mean() / accumulate).backward()
        before = None
        if i % accumulate == accumulate - 1:
            before = {n: (p.detach().clone(), p.grad.clone()) for n, p in net.named_parameters()}
            steps.before_update()
            optimizer.step()
            optimizer.zero_grad()
        if steps.end():
            yield i, before


@pytest.mark.parametrize("in_parts", [True, False])
def test_a_step_of_several_batches_is_one(in_parts):
    net, steps = Parts(), TrainingSteps(every=2)
    ended = []
    for i, before in train(steps, net, net.in_parts if in_parts else net):
        ended.append(i)
        names = [layer.name for layer in steps.report.layers]
        assert names[0] == "encoder.0" and "head" in names
        assert steps.report["head"].shape == (10, 1)  # two batches of 5
        assert steps.report["head"].parameter == "head.weight"
        assert steps.scalars["initfast/gradients/encoder.0/rms"] > 0
        for name, (weight, grad) in before.items():
            tag = f"initfast/updates/{name}"
            rms, ratio = rms_of(grad), 0.1 * rms_of(grad) / rms_of(weight)
            assert steps.scalars[f"{tag}/to_weight"] == pytest.approx(ratio, rel=1e-5)
            assert steps.scalars[f"{tag}/gradient"] == pytest.approx(rms, rel=1e-12)
    assert ended == [1, 5]


def test_training_is_the_same_to_the_last_bit():
    results = []
    for every in (1, 10**9):
        torch.manual_seed(1)
        net = Parts()
        steps = TrainingSteps(every)
        steps.begin(net, 1)
        list(train(steps, net, net.in_parts))
        steps.close()
        results.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(*results)


def test_closed_in_the_middle_it_leaves_the_net_alone():
    net, steps = Parts(), TrainingSteps()
    plain = dict(net.__dict__)
    steps.begin(net, 0)
    net(torch.ones(2, 4))
    steps.close()
    assert net.__dict__.keys() == plain.keys() and not steps.end()


@pytest.mark.parametrize("every", [0, 1.5, True])
def test_every_is_checked(every):
    with pytest.raises(ValueError, match=r"every is .*; expected a whole number from 1 up"):
        TrainingSteps(every)
