"""profile(loss=) of nets that call their layers themselves: chains with a graph."""

import pytest
import torch
import torch.nn.functional as F
from cases.loops import Loop, check, data
from cases.profiles import WIDTH
from nets.with_gradients import assert_close, loss_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from initfast.interception.deferred_tensor import DeferredTensor
from initfast.profiling.profile import profile
from initfast.recording import linear_act_chain


@pytest.fixture
def chains(monkeypatch):
    """How many layers each operator on the way back had."""
    found, operator = [], linear_act_chain.CHAIN_BACKWARD

    def spy(*arguments):
        found.append(len(arguments[2]))
        return operator(*arguments)

    monkeypatch.setattr(linear_act_chain, "CHAIN_BACKWARD", spy)
    return found


def test_a_loop_is_one_operator(chains):
    report = check(Loop(), data())
    assert chains == [4]
    assert [layer.op for layer in report] == ["linear + tanh"] * 4


class UsedAgain(Loop):
    def forward(self, x):
        self.calls += 1
        for linear in self.linears:
            x = torch.tanh(linear(x))
            x = x + x.sin()
        return x


def test_results_that_are_used_again(chains):
    check(UsedAgain(), data())
    assert chains == [1] * 4
    chains.clear()
    check(Loop(lambda z, y: y + y.sin()), data())  # somebody has the pre-activation
    check(Loop(lambda z, y: y * z.sigmoid()), data())
    assert not chains
    check(Loop(lambda z, y: y + z.detach()), data())


def test_what_the_net_keeps_has_its_graph():
    kept = []

    def keep(z, y):
        kept.append((z, y))
        return y

    net = Loop(keep)

    def loss(y):
        own = kept[-4:]
        kept.clear()
        return loss_of(y) + sum((z.cos() * y).sum() for z, y in own)

    check(net, data(), loss)


@pytest.mark.parametrize("frozen", [[0], [1, 2], [0, 1, 2, 3]])
@pytest.mark.parametrize("wanted", [False, True])
def test_frozen_layers(frozen, wanted):
    net, x = Loop(), data().requires_grad_(wanted)
    for i in frozen:
        net.linears[i].requires_grad_(False)
    if wanted or len(frozen) < 4:
        check(net, x)
    else:
        with pytest.raises(ValueError, match="without a graph"):
            profile(net, x, loss=loss_of)


def test_parts_without_gradients():
    class Net(Loop):
        def forward(self, x):
            with torch.no_grad():
                x = torch.tanh(self.linears[0](x))
                z = self.linears[1](x)
            x = torch.tanh(self.linears[1](torch.tanh(z)))
            z = self.linears[2](x)
            y = torch.tanh(z)
            with torch.no_grad():
                shift = torch.tanh(self.linears[3](y))
                own = torch.tanh(self.linears[3](z))
            with torch.inference_mode():
                z.mean()
            return y + shift + own

    net, x = Net(), data()
    truth = torch.autograd.grad(loss_of(net(x)), [net.linears[i].weight for i in (1, 2)])
    report = profile(net, x, loss=loss_of)
    found = [layer for layer in report if layer.weight_grad is not None and layer.weight]
    assert_close(next(a for a in found if a.name == "linears.1").weight_grad, truth[0])
    assert_close(next(a for a in found if a.name == "linears.2").weight_grad, truth[1])


def test_checkpoints_of_what_waits():
    class Net(Loop):
        def forward(self, x):
            for first, second in (self.linears[:2], self.linears[2:]):
                z = first(x)
                x = checkpoint(
                    lambda z, s=second: torch.tanh(s(torch.tanh(z))), z, use_reentrant=False
                )
            return x

    net, x = Net(), data()
    truth = torch.autograd.grad(loss_of(net(x)), [linear.weight for linear in net.linears])
    report = profile(net, x, loss=loss_of)
    for linear, grad in zip(net.linears, truth, strict=True):
        name = f"linears.{list(net.linears).index(linear)}"
        found = next(a for a in report if a.name == name and a.weight is not None)
        assert_close(found.weight_grad, grad)


def test_the_output_is_a_tensor_with_a_graph():
    seen = []

    def loss(y):
        seen.append(type(y))
        assert y.grad_fn is not None and not y.is_leaf
        y.retain_grad()
        return loss_of(y)

    for net in (Loop(), Loop(lambda z, y: z), nn.Linear(WIDTH, 3).double()):
        profile(net, data(), loss=loss)
    assert seen == [torch.Tensor] * 3


def test_writes_between_a_layer_and_its_activation():
    class Net(Loop):
        def forward(self, x):
            self.calls += 1
            x = x.clone()
            z = self.linears[0](x)
            with torch.no_grad():
                x.add_(1)
            w = torch.tanh(self.linears[1](x * 1))
            return F.relu_(self.linears[2](torch.tanh(z) + w))

    net, x = Net(), data().requires_grad_(False)
    net.linears[0].weight.requires_grad_(False)
    check(net, x)


def test_nothing_waits_after_a_forward_that_raises():
    kept = []

    def fail(z, y):
        kept.append((z, y))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        profile(Loop(fail), data(), loss=loss_of)
    for t in kept[0]:
        assert type(t) is torch.Tensor or (isinstance(t, DeferredTensor) and t.value is not None)
        assert torch.isfinite(t).all() and t.requires_grad
