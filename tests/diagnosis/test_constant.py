"""What is said of outputs that are the same for every input, and of gradients that are zero."""

import torch
from cases.findings import Measured, layer, moments, said
from torch import nn

from initfast import profile
from initfast.report.report import Report


def serious(report, rule=None):
    found = [f for f in report.findings if f.severity != "info"]
    return [f for f in found if rule in (None, f.rule)]


def perceptron(norm):
    return nn.Sequential(
        *(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, norm.normalized_shape[-1]), norm),
        *(nn.Linear(norm.normalized_shape[-1], 8), nn.Tanh(), nn.Linear(8, 3)),
    )


def test_a_norm_of_one_feature_is_constant_and_its_code_lets_the_signal_pass():
    torch.manual_seed(0)
    net, x = perceptron(nn.LayerNorm(1)), torch.randn(32, 12)
    report = profile(net, x)
    (finding,) = serious(report, "constant_output")
    assert finding.names == ("3", "3") and "by itself" in finding.cause
    exec(finding.code, {"net": net, "report": report})
    assert not serious(profile(net, x), "constant_output") and net(x).std(0).min() > 0


def test_norms_that_leave_something_are_let_be():
    torch.manual_seed(0)
    assert not serious(profile(perceptron(nn.LayerNorm(24)), torch.randn(32, 12)))


def test_a_branch_may_begin_at_zero():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
            self.norm = nn.LayerNorm(16)
            nn.init.zeros_(self.norm.weight)

        def forward(self, x):
            return x + self.norm(self.body(x))

    torch.manual_seed(0)
    net = nn.Sequential(*[Block() for _ in range(4)], nn.Linear(16, 2))
    assert not serious(profile(net, torch.randn(32, 16), loss=lambda y: y.square().mean()))


class Cut(nn.Module):
    """A net with a function in the middle."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 24), nn.Linear(24, 24), nn.Linear(24, 3)
        self.function = function

    def forward(self, x):
        return self.last(self.function(torch.tanh(self.second(torch.tanh(self.first(x))))))


def test_where_the_gradient_is_cut_is_named():
    torch.manual_seed(0)
    x, loss = torch.randn(32, 8), (lambda y: (y - 1).square().mean())
    for function in (torch.round, torch.sign, lambda h: h.clamp(3, 4)):
        (finding,) = serious(profile(Cut(function), x, loss=loss), "no_gradient")
        assert (finding.first, finding.last) == (0, 1) and "layer 2 ('last')" in finding.cause
        assert finding.severity == "error" and finding.value == 0
    assert not serious(profile(Cut(torch.nn.functional.silu), x, loss=loss), "no_gradient")
    (finding,) = serious(profile(Cut(torch.tanh), x, loss=lambda y: 0 * y.sum()), "no_gradient")
    assert "at every layer" in finding.measured


def test_a_head_of_zeros_is_the_usual_start():
    torch.manual_seed(0)
    net = Cut(torch.tanh)
    nn.init.zeros_(net.last.weight)
    nn.init.zeros_(net.last.bias)
    report = profile(net, torch.randn(32, 8), loss=lambda y: (y - 1).square().mean())
    assert not serious(report, "no_gradient")


def test_a_weight_that_a_norm_cannot_lift_is_named_with_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU())
    net.append(nn.Linear(32, 2))
    with torch.no_grad():
        net[0].weight.mul_(1e-4)
    report = profile(net, torch.randn(64, 16))
    (finding,) = serious(report, "constant_output")
    assert finding.names == ("0", "1") and "eps" in finding.cause
    exec(finding.code, {"net": net, "report": report, "initfast": __import__("initfast")})
    assert not serious(profile(net, torch.randn(64, 16)))


def test_statistics_over_samples_tell_a_constant_output_and_one_direction():
    def net(spread, correlation):
        first = Measured({"batch_std": 1.0, "correlation": 0.1}, name="0")
        last = {"batch_std": spread, "correlation": correlation}
        return *[first] * 9, Measured(last, name="1", is_returned=True, post=moments(std=0.5))

    assert not said(*net(0.4, 0.3), rule="constant_output")
    (finding,) = said(*net(1e-4, 0.3), rule="constant_output")
    assert (finding.first, finding.last) == (9, 9) and "same for every input" in finding.measured
    assert said(*net(0.02, 0.3), rule="constant_output", thresholds={"constant_output": 1e9})
    assert not said(*net(1e-4, 0.995), rule="one_direction")  # one cause, one finding
    assert not said(*net(0.4, 0.9), rule="one_direction")
    (finding,) = said(*net(0.4, 0.995), rule="one_direction")
    assert (finding.value, finding.severity) == (0.995, "warning")
    residual = layer(op="add", name="2")
    assert not said(*net(0.4, 0.995), residual, rule="one_direction")
    assert Report([layer()]).findings == []  # where they are not known


def he_relu(depth, width, *more):
    linears = [nn.Linear(width, width) for _ in range(depth)]
    for linear in linears:
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
    return nn.Sequential(*[m for linear in linears for m in (linear, nn.ReLU())], *more)


def test_a_deep_plain_stack_brings_samples_to_one_direction():
    torch.manual_seed(0)
    report = profile(he_relu(60, 256), torch.randn(64, 256))
    (finding,) = said(*report.layers, rule="one_direction")
    assert finding.severity == "info" and finding.value == report[-1].correlation > 0.95
    shallow = he_relu(6, 64, nn.Linear(64, 8), nn.Sigmoid())  # whose outputs have 0.5 in common
    assert not said(*profile(shallow, torch.randn(64, 64)).layers, rule="one_direction")


def test_pooled_noise_is_no_collapse():
    """The mean of many positions is nearly the same for every image of noise."""
    torch.manual_seed(0)
    conv = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    net = nn.Sequential(*conv, nn.Flatten(), nn.Linear(16, 10))
    report = profile(net, torch.randn(8, 3, 16, 16))
    assert report[-1].correlation > 0.95 and not serious(report)


class Mish(nn.Module):
    """By hand, so that no check knows its slope."""

    def forward(self, x):
        return x * torch.tanh(nn.functional.softplus(x))


def test_an_output_that_depends_on_the_biases_alone():
    """Where the check of vanishing speaks, this one does not repeat it."""
    torch.manual_seed(0)
    x = torch.randn(128, 64)
    for act, spoken in ((Mish, "constant_output"), (nn.SiLU, "vanishing")):
        linears = [nn.Linear(64, 64) for _ in range(12)]
        for linear in linears:
            nn.init.normal_(linear.weight, std=(2 / 3 / 64) ** 0.5)
        net = nn.Sequential(*[m for linear in linears for m in (linear, act())], nn.Linear(64, 4))
        report = profile(net, x)
        rules = {f.rule for f in serious(report)}
        assert rules & {"constant_output", "vanishing", "one_direction"} == {spoken}
        assert report[-1].batch_std < 1e-2 * report[0].batch_std
