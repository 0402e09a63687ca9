"""profile(loss=) of nets that look at what a backward goes through: hooks, extensions."""

import pytest
import torch
from cases.loops import Loop, check, data
from cases.profiles import WIDTH
from nets.with_gradients import assert_close, loss_of
from torch import nn

from initfast.profiling.profile import profile
from initfast.profiling.profiler import Profiler


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class Masked(torch.autograd.Function):
    """Saves what it takes."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return grad * (z > 0)


@pytest.mark.parametrize("function", [Double, Masked])
@pytest.mark.parametrize("known_before", [False, True])
def test_functions_of_the_user_s_own(function, known_before):
    """They take tensors past torch's function modes, also by names given to `apply` long before."""
    alias, own = function.apply, torch.autograd.Function.__dict__["apply"]

    class Net(Loop):
        def forward(self, x):
            self.calls += 1
            apply = alias if known_before else function.apply
            x = apply(self.linears[0](x))
            y = apply(torch.tanh(self.linears[1](x)))
            return torch.tanh(self.linears[3](torch.tanh(self.linears[2](y))))

    report = check(Net(), data())
    assert torch.autograd.Function.__dict__["apply"] is own
    assert [layer.name for layer in report if layer.weight] == [f"linears.{i}" for i in range(4)]


def test_a_penalty_on_gradients():
    x = data().requires_grad_()

    def loss(y):
        (grad,) = torch.autograd.grad(loss_of(y), x, create_graph=True)
        return loss_of(y) + (grad.norm(dim=1) - 1).square().mean()

    check(Loop(), x, loss)
    check(Loop(lambda z, y: y * z.sigmoid()), x, loss)


def test_hooks_on_modules_and_tensors():
    net, x, seen = Loop(), data(), []
    hooks = [
        net.linears[1].register_forward_hook(lambda m, a, y: seen.append(y.shape)),
        net.linears[2].register_full_backward_hook(lambda m, gin, gout: seen.append(len(gout))),
    ]
    check(net, x)
    assert seen == [(6, WIDTH), 1] * 2
    for hook in hooks:
        hook.remove()
    check(Loop(lambda z, y: z.register_hook(lambda grad: grad * 2) and y), x)
    check(
        Loop(lambda z, y: y + torch.autograd.grad(y.sum(), z, retain_graph=True)[0].sum()),
        x,
    )
    check(Loop(lambda z, y: y if z.grad_fn is None else y * 2), x)
    own = Loop(lambda z, y: y.register_hook(lambda grad: seen.append(grad.shape)) and y)
    check(own, x)
    assert seen[-8:] == [(6, WIDTH)] * 8


class Writing(nn.Module):
    """Changes what it is, draws from a generator of its own, and looks at a pre-activation."""

    def __init__(self, look):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.generator = torch.Generator().manual_seed(0)
        self.steps, self.seen = 0, []
        self.look = look

    def forward(self, x):
        with torch.no_grad():
            self.first.weight.mul_(1.1)
        self.steps += 1
        x = x + torch.randn(x.shape, generator=self.generator, dtype=x.dtype)
        z = self.second(torch.tanh(self.first(x)))
        y = torch.tanh(z)
        self.look(self, z, y)
        self.seen.append(y.detach().clone())
        return y


LOOKS = {
    "hook": lambda net, z, y: z.register_hook(lambda grad: net.seen.append(grad)),
    "retain": lambda net, z, y: z.retain_grad(),
    "place": lambda net, z, y: net.seen.append(z.grad_fn.name()),
    "gradient": lambda net, z, y: net.seen.append(
        torch.autograd.grad(y.sum(), z, retain_graph=True)[0]
    ),
    "kept": lambda net, z, y: net.seen.append(z),
    "function": lambda net, z, y: net.seen.append(double(z)),
}
double = Double.apply


@pytest.mark.parametrize("look", LOOKS)
def test_a_net_that_looks_at_a_pre_activation_runs_once(look):
    torch.manual_seed(0)
    net, twin = (Writing(LOOKS[look]).double() for _ in range(2))
    twin.load_state_dict(net.state_dict())
    twin(data()).sum().backward()
    profile(net, data(), loss=torch.sum)
    assert net.steps == 1 and torch.equal(net.first.weight, twin.first.weight)
    assert torch.equal(net.generator.get_state(), twin.generator.get_state())
    assert len(net.seen) == len(twin.seen)
    for mine, others in zip(net.seen, twin.seen, strict=True):
        same = torch.allclose(mine, others) if isinstance(mine, torch.Tensor) else mine == others
        assert same


def extension(t):
    """Past torch's functions, straight to what they are made of."""
    with torch._C.DisableTorchFunction():
        return t.mul(2).sin()


class Extended(Writing):
    def __init__(self):
        super().__init__(lambda net, z, y: None)
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x):
        with torch.no_grad():
            self.first.weight[0] += 1
            self.first.bias.data.mul_(2)
            self.mean.add_(1)
        self.drawn = torch.rand((), generator=self.generator)
        return super().forward(extension(self.second(extension(torch.tanh(self.first(x))))))


@pytest.mark.parametrize("training", [True, False])
def test_a_net_that_runs_again_writes_once(training):
    """An extension takes a result that waits: what the first run wrote is put back."""
    torch.manual_seed(0)
    net, twin = (Extended().double().train(training) for _ in range(2))
    twin.load_state_dict(net.state_dict())
    twin(data()).sum().backward()
    report = profile(net, data(), loss=torch.sum)
    assert len(net.seen) == 1 and torch.allclose(net.seen[0], twin.seen[0])
    assert net.steps == 1 and net.drawn == twin.drawn
    for mine, others in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, others)
    assert torch.equal(net.mean, torch.zeros(WIDTH) if training else twin.mean)
    assert torch.equal(net.generator.get_state(), twin.generator.get_state())
    assert_close(report[3].weight_grad, twin.second.weight.grad)


def test_a_net_that_runs_again_keeps_its_call():
    """That of a Profiler, whose context is active, or of net.compile()."""
    net = Extended().double()
    with Profiler(net) as p:
        profile(net, data(), loss=torch.sum)
        net(data())
    assert p.calls == 1
