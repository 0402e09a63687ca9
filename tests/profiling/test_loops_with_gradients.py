"""profile(loss=) of nets that call their layers themselves: chains with a graph, and who sees."""

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import WIDTH, batch
from cases.unchanged import equal, state
from nets.with_gradients import assert_close, loss_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from initfast.interception.deferred_tensor import DeferredTensor
from initfast.profiling.profile import profile
from initfast.recording import linear_act_chain


class Loop(nn.Module):
    """Layers called one after the other; `after` is called with each pre-activation and result."""

    def __init__(self, after=None, depth=4):
        super().__init__()
        torch.manual_seed(0)
        self.linears = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth)).double()
        self.after = after
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        for linear in self.linears:
            z = linear(x)
            x = torch.tanh(z)
            if self.after is not None:
                x = self.after(z, x)
        return x


@pytest.fixture
def chains(monkeypatch):
    """How many layers each operator on the way back had."""
    found, operator = [], linear_act_chain.CHAIN_BACKWARD

    def spy(*arguments):
        found.append(len(arguments[2]))
        return operator(*arguments)

    monkeypatch.setattr(linear_act_chain, "CHAIN_BACKWARD", spy)
    return found


def check(net, x, loss=loss_of):
    """The report has torch's gradients at every tanh and every weight, and nothing is left.

    The profile runs the net once.
    """
    points, tanh = [], torch.tanh

    def kept(z):
        points.append(tanh(z))
        return points[-1]

    ends = [p for p in net.parameters() if p.requires_grad]
    torch.tanh = kept
    try:
        value = loss(net(x))
    finally:
        torch.tanh = tanh
    points = [t for t in points if t.requires_grad]
    found = torch.autograd.grad(value, [*points, *ends], allow_unused=True)
    weights = {id(p): g for p, g in zip(ends, found[len(points) :], strict=True)}
    before, net.calls = state(net), 0
    report = profile(net, x, loss=loss)
    assert equal(state(net), before) and net.calls == 1
    measured = [layer for layer in report if "tanh" in layer.op and layer.grad is not None]
    assert len(measured) == len(points)
    for layer, truth in zip(measured, found, strict=False):
        assert_close(layer.grad, truth)
    for layer in report.select("linears.*"):
        if layer.weight is not None and "linear" in layer.op:
            truth = weights.get(id(net.get_submodule(layer.name).weight))
            if truth is None:
                assert layer.weight_grad is None
            else:
                assert_close(layer.weight_grad, truth)
    return report


def data():
    return batch(6, WIDTH).double()


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
