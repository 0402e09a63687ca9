"""profile(loss=): the gradients are autograd's, and nothing is left of the backward."""

import math

import pytest
import torch
import torch.nn.functional as F
from profile_cases import WIDTH, batch
from test_profile_state import Stateful, equal, notes, state
from torch import nn
from torch.utils.checkpoint import checkpoint

from initfast.moments import Moments
from initfast.profiler import profile
from initfast.spelling import MODULES


def loss_of(y):
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return (y * weights).sum() + y.pow(2).sum()


class Points(nn.Module):
    """A net that keeps what should become the layers of its report."""

    def point(self, t):
        self.points.append(t)
        return t


class Functional(Points):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH, bias=False)

    def forward(self, x):
        h = self.point(F.gelu(F.linear(x, self.first.weight, self.first.bias)))
        return self.point(torch.sigmoid(F.linear(h, self.second.weight)))


class Residual(Points):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        for _ in range(2):  # shared modules
            branch = self.point(self.down(self.point(self.up(x).relu())))
            x = x + branch
            x = self.point(x)
        return self.point(self.norm(x))


class Looping(Points):
    def __init__(self):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        for linear in self.linears:
            x = linear(x)
            x = self.point(torch.relu_(x))
        return x


class Recurrent(Points):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, 5, num_layers=2)

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        self.points += [y, h, c]
        return self.point(torch.cat([y.flatten(), h.flatten(), c.flatten()]))


class Straight(nn.Sequential):
    """A plain Sequential in all but that it keeps its points; an activation joins its layer."""

    def forward(self, x):
        for child, after in zip(self, [*list(self)[1:], None], strict=True):
            x = child(x)
            joins = isinstance(child, (nn.Linear, nn.Conv2d, nn.BatchNorm2d))
            if not (joins and type(after) in MODULES):
                self.points.append(x)
        return x


def convolutional():
    return (
        nn.Unflatten(1, (3, 2, 2)),
        nn.Conv2d(3, 5, 2, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.Conv2d(5, 4, 1),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 4),
    )


def perceptron():
    activations = (nn.Tanh(), nn.LeakyReLU(0.1), nn.GELU(), nn.Softplus(2.0))
    return [m for act in activations for m in (nn.Linear(WIDTH, WIDTH), act)] + [
        nn.Linear(WIDTH, 3)
    ]


NETS = {
    "sequential": lambda: nn.Sequential(*perceptron()),
    "convolutional": lambda: nn.Sequential(*convolutional()),
    "loop": Looping,
    "functional": Functional,
    "residual": Residual,
    "recurrent": Recurrent,
}


def make(name, dtype=torch.float64):
    torch.manual_seed(4)
    net = NETS[name]().to(dtype).eval()
    net.points = []
    return net


def truth_of(net, x, loss=loss_of):
    """By torch alone: the gradients at the points, in order, and of every parameter by name."""
    plain = Straight(*net) if isinstance(net, nn.Sequential) else net
    plain.points = []
    value = loss(plain(x))
    points, plain.points = plain.points, []
    parameters = dict(net.named_parameters())
    wanted = [t for t in [*points, *parameters.values()] if t.requires_grad]
    found = iter(torch.autograd.grad(value, wanted, allow_unused=True))
    at_points = [next(found) if t.requires_grad else None for t in points]
    return at_points, {n: next(found) for n, p in parameters.items() if p.requires_grad}


def assert_close(moments, truth, rel=1e-11):
    expected = Moments.of(truth.double().contiguous())
    scale = abs(expected.mean) + (0 if math.isnan(expected.std) else expected.std) + 1e-300
    assert (moments.count, moments.nonfinite) == (expected.count, expected.nonfinite)
    for name in ("mean", "min", "max"):
        assert abs(getattr(moments, name) - getattr(expected, name)) <= rel * scale, name
    assert moments.m2 == pytest.approx(expected.m2, rel=100 * rel)


def assert_true(report, net, truth, rel=1e-11):
    at_points, weights = truth
    assert len(report) == len(at_points)
    for layer, grad in zip(report, at_points, strict=True):
        if grad is None:
            assert layer.grad is None
        else:
            assert_close(layer.grad, grad, rel)
        weight = weights.get(f"{layer.name}.weight")
        if weight is not None and layer.weight is not None:
            assert_close(layer.weight_grad, weight, rel)
            expected = layer.weight_grad.std / layer.weight.std
            assert layer.grad_to_weight == pytest.approx(expected)
        else:
            assert layer.weight_grad is None


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_autograd_s(name):
    net, x = make(name), batch(6, WIDTH).double()
    truth = truth_of(net, x)
    report = profile(net, x, loss=loss_of)
    assert_true(report, net, truth)
    measured = sum(layer.weight_grad is not None for layer in report)
    expected = {"sequential": 5, "convolutional": 3, "loop": 4, "residual": 4, "functional": 2}
    assert measured == expected.get(name, 0)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    net, x = make("sequential", dtype), batch(64, WIDTH).to(dtype)
    report = profile(net, x, loss=loss_of)
    at_points, weights = truth_of(net.double(), x.double())
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for layer, grad in zip(report, at_points, strict=True):
        assert layer.grad.std == pytest.approx(grad.std().item(), rel=tolerance)
        expected = weights[f"{layer.name}.weight"].std().item()
        assert layer.weight_grad.std == pytest.approx(expected, rel=tolerance)


def test_frozen_layers_pass_gradients_on_and_have_none():
    net, x = make("sequential"), batch(6, WIDTH).double()
    net[0].requires_grad_(False)
    net[4].requires_grad_(False)
    truth = truth_of(net, x)
    report = profile(net, x, loss=loss_of)
    assert_true(report, net, truth)
    assert report["0"].grad is None and report["4"].grad is not None
    flags = [p.requires_grad for p in net.parameters()]
    assert flags == [False] * 2 + [True] * 2 + [False] * 2 + [True] * 4


def test_an_input_that_requires_a_gradient():
    net, x = make("sequential").requires_grad_(False), batch(6, WIDTH).double().requires_grad_()
    before = torch.ones_like(x)
    x.grad = before
    assert_true(profile(net, x, loss=loss_of), net, truth_of(net, x))
    assert x.grad is before and bool((before == 1).all())
    # One that is the middle of a greater graph: that graph stays whole.
    leaf = batch(6, WIDTH).double().requires_grad_()
    middle = leaf.tanh()
    assert profile(net, middle, loss=loss_of)[0].grad is not None
    middle.sum().backward()


def test_a_plain_callable():
    net, x = make("sequential"), batch(6, WIDTH).double()
    report = profile(lambda t: net(t), x, loss=loss_of)
    _, weights = truth_of(net, x)
    assert [layer.grad is not None for layer in report] == [True] * 5
    assert_close(report[1].weight_grad, weights["2.weight"])


def test_autocast():
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make("sequential", torch.float32)

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.body(x).float()

    net, x = Cast(), batch(32, WIDTH)
    report = profile(net, x, loss=loss_of)
    loss_of(net(x)).backward()
    for layer in report.select("body.?"):
        weight = net.get_submodule(layer.name).weight
        assert_close(layer.weight_grad, weight.grad, 1e-3)
    assert report["body.2"].dtype == torch.bfloat16 and report["body.2"].grad.count == 32 * WIDTH


def test_targets():
    net, x = make("sequential"), batch(6, WIDTH).double()
    criterion, targets = nn.CrossEntropyLoss(), torch.arange(6) % 3
    report = profile(net, x, loss=criterion, targets=targets)
    assert_true(report, net, truth_of(net, x, lambda y: criterion(y, targets)))


def test_an_empty_batch():
    net = make("sequential")
    report = profile(net, torch.empty(0, WIDTH).double(), loss=lambda y: y.sum())
    assert [layer.grad.count for layer in report] == [0] * 5
    assert report[0].weight_grad.std == 0


def test_a_layer_changed_in_place_afterwards():
    class Changed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Sigmoid())

        def forward(self, x):
            return self.body(x).mul_(3)

    net, x = Changed().double(), batch(6, WIDTH).double()
    report = profile(net, x, loss=lambda y: y.sum())
    assert report["body.0"].grad.mean == 3.0 and report["body.0"].grad.std == 0


# ---- graphs within the forward ----


@pytest.mark.parametrize("body", ["sequential", "loop"])
def test_second_derivatives_in_the_forward(body):
    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make(body)

        def forward(self, x):
            x = x.detach().requires_grad_()
            y = self.body(x)
            (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
            return y.sum() + slope.square().sum()

    net, x = Slope(), batch(6, WIDTH).double()
    parameters = [p for p in net.parameters() if p.dim() == 2]
    truth = torch.autograd.grad(net(x), parameters)
    report = profile(net, x, loss=lambda y: y)
    assert all(p.grad is None for p in parameters)
    weights = [layer.weight_grad for layer in report if layer.weight_grad is not None]
    for moments, grad in zip(weights, truth, strict=True):
        assert_close(moments, grad)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpoints_are_recorded_once(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(WIDTH, WIDTH)
            self.body = make("sequential")
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            x = checkpoint(self.body, self.first(x).relu(), use_reentrant=reentrant)
            return self.norm(x)

    net, x = Checkpointed().double(), batch(6, WIDTH).double()
    before = state(net)
    report = profile(net, x, loss=loss_of)
    assert equal(state(net), before)
    assert [layer.name for layer in report][:3] == ["first", "body.0", "body.2"]
    assert len(report) == 7
    loss_of(net(x)).backward()
    for layer in report:
        if layer.name != "norm":
            assert_close(layer.weight_grad, net.get_submodule(layer.name).weight.grad)
            assert layer.grad is not None


# ---- the scaler ----


def test_a_scaler_s_scale_is_taken_out():
    net, x = make("sequential"), batch(6, WIDTH).double()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    truth = truth_of(net, x)
    assert_true(profile(net, x, loss=loss_of, scaler=scaler), net, truth)
    assert scaler.get_scale() == 1024.0
    off = torch.amp.GradScaler("cpu", enabled=False)
    assert_true(profile(net, x, loss=loss_of, scaler=off), net, truth)


def test_gradients_that_overflow_when_scaled_are_non_finite():
    net = nn.Linear(4, 4).half()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    x = torch.ones(2, 4, dtype=torch.half)
    report = profile(net, x, loss=lambda y: (y * 4).sum().float(), scaler=scaler)
    assert report[0].grad.nonfinite == 8
    assert profile(net, x, loss=lambda y: (y * 4).sum().float())[0].grad.mean == 4.0


# ---- the net as it was ----


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
    with pytest.raises(kind, match=words):
        profile(net, batch(6, WIDTH).double(), loss=loss)
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


def test_without_a_loss_nothing_has_a_gradient():
    report = profile(make("sequential"), batch(6, WIDTH).double())
    assert all(layer.grad is layer.weight_grad is None for layer in report)


def test_a_stop_at_a_non_finite_value_comes_before_the_backward():
    net, x = make("sequential"), batch(6, WIDTH).double() * math.inf
    report = profile(net, x, loss=loss_of, stop_at_nonfinite=True)
    assert len(report) == 1 and report[0].grad is None
