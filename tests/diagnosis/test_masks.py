"""Values that are not finite: a mask's infinities are told from a fault."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
from nets.labelled import BATCH, WIDTH, he, rules_of
from torch import nn

from initfast import profile
from initfast.diagnosis.diagnosing import RULES
from initfast.nets.pytree import tensors
from initfast.report.report import Report


def test_the_first_non_finite_value():
    net = he(6)()
    with torch.no_grad():
        net[6].weight[0, 0] = math.inf
    report = profile(net, torch.randn(BATCH, WIDTH))
    worst = report.findings[0]
    assert (worst.rule, worst.severity, worst.first) == ("non_finite", "error", 3)
    assert report.origin in worst.measured and "parameters" in worst.cause
    assert "3 of the 3 layers after it" in worst.measured


class Causal(nn.Module):
    def forward(self, x):
        return x.masked_fill(torch.ones(x.shape[-2:], dtype=torch.bool).triu(1), -math.inf)


def deep_sigmoid(*first):
    layers = [m for _ in range(20) for m in (nn.Linear(32, 32), nn.Sigmoid())]
    return nn.Sequential(*first, *layers)


@pytest.mark.parametrize("softmax", [nn.Softmax(-1), nn.Sequential(nn.Softmax(-1))])
def test_the_infinities_of_a_mask_are_no_fault(softmax):
    torch.manual_seed(0)
    x = torch.randn(8, 32, 32)
    report = profile(deep_sigmoid(Causal(), softmax), x, loss=lambda y: y.mean())
    masks = [f for f in report.findings if f.rule == "non_finite"]
    assert [(f.severity, f.first) for f in masks] == [("info", 0)]
    assert "non_finite" not in rules_of(report) and "gradient_vanishing" in rules_of(report)
    plain = profile(deep_sigmoid(), x, loss=lambda y: y.mean())
    assert rules_of(plain) <= rules_of(report)
    assert report.skipped_checks == plain.skipped_checks


def test_a_policy_may_end_in_a_mask():
    class Policy(nn.Sequential):
        def forward(self, x):
            return Causal()(super().forward(x))

    for net in (nn.Sequential(he(3)(), Causal()), Policy(*he(3)())):
        report = profile(net, torch.randn(10, WIDTH))
        assert not rules_of(report) and report.findings[0].rule == "non_finite"


def test_what_lies_behind_non_finite_values_is_not_judged_and_said_so():
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    report = profile(deep_sigmoid(Log()), torch.randn(8, 32), loss=lambda y: y.nansum())
    assert report.findings[0].severity == "error" and report.findings[0].first == 0
    reasons = {s.rule: s.reason for s in report.skipped_checks}
    made = {"non_finite", "symmetric_units", "weight_scale"}
    not_asked_for = {"attention_logits"}
    assert reasons.keys() == RULES.keys() - made - not_asked_for
    assert set(reasons.values()) == {
        "layers 0 to 20 are not judged: from layer 0 on values are not finite"
    }


@pytest.mark.parametrize(
    "end",
    [lambda y: torch.sqrt(y), lambda y: torch.log(y.clamp(0)), lambda y: y / (y - y)],
)
def test_a_last_layer_that_makes_non_finite_values_is_at_fault(end):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x):
            return end(self.a(x)), self.b(x)  # the second is finite, and made later

    for seed in range(5):
        torch.manual_seed(seed)
        worst = profile(Net(), torch.randn(16, 8)).findings[0]
        assert (worst.rule, worst.severity) == ("non_finite", "error")


def test_an_overflow_before_a_softmax_is_at_fault():
    class Scaled(nn.Module):
        def forward(self, x):
            return 60000 * x

    x = torch.randn(8, 32).half()
    worst = profile(nn.Sequential(Scaled(), nn.Sigmoid()), 2 * x).findings[0]
    assert (worst.rule, worst.first) == ("non_finite", 0)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    "before, end",
    [
        (nn.Hardtanh(), lambda z: z**1.5),
        (nn.ReLU(), lambda z: z / (z > 0)),
        (nn.Hardtanh(-0.3, 1), torch.sqrt),
    ],
)
def test_a_last_layer_that_keeps_an_extreme_is_at_fault_too(before, end):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), before, Function(end))
    worst = profile(net, 3 * torch.randn(64, 16)).findings[0]
    assert (worst.rule, worst.severity) == ("non_finite", "error")


def test_a_mask_that_is_a_buffer_is_no_bad_parameter():
    class AddMask(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((16, 16), -math.inf).triu(1))

        def forward(self, x):
            return x + self.mask

    report = profile(nn.Sequential(AddMask(), nn.Softmax(-1)), torch.randn(16, 16))
    assert "non_finite" not in rules_of(report)


def test_a_mask_hides_no_bad_parameter_behind_it():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor([1.0] * 15 + [math.nan]))

        def forward(self, x):
            return x * self.gain

    net = nn.Sequential(nn.Linear(16, 16), Causal(), nn.Softmax(-1), Scale())
    worst = profile(net, torch.randn(16, 16)).findings[0]
    assert (worst.rule, worst.severity, worst.first) == ("non_finite", "error", 3)
    assert "gain" in worst.measured


class Log(nn.Module):
    def forward(self, x):
        return x.log()


class TwoHeads(nn.Module):
    """A head, and an auxiliary value of the hidden layer, put together by a function."""

    def __init__(self, end, aux=None):
        super().__init__()
        self.body, self.head = nn.Linear(16, 32), nn.Linear(32, 4)
        self.aux, self.end = aux or Log(), end

    def forward(self, x):
        h = self.body(x)
        return self.end(self, self.aux(h), self.head(h.relu()))


def keep_mean(net, aux, y):
    net.loss = aux.mean()
    return y


@dataclass
class Outputs:
    logits: torch.Tensor
    aux: torch.Tensor


ENDS = {
    "tuple": lambda net, aux, y: (y, aux),
    "first of a tuple": lambda net, aux, y: (aux, y),
    "dict": lambda net, aux, y: {"logits": y, "aux": aux},
    "dataclass": lambda net, aux, y: Outputs(y, aux),
    "loss in a tuple": lambda net, aux, y: (y, aux.mean()),
    "loss in an attribute": keep_mean,
    "forgotten": lambda net, aux, y: y,
}


@pytest.mark.parametrize("loss", [None, lambda out: sum(t.sum() for t in leaves_of(out))])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_nan_beside_the_main_output_is_no_mask(end, loss):
    torch.manual_seed(0)
    worst = profile(TwoHeads(end), torch.randn(8, 16), loss=loss).findings[0]
    assert (worst.rule, worst.severity, worst.names) == ("non_finite", "error", ("aux", "aux"))
    assert "NaN is among them" in worst.measured


def leaves_of(out):
    return [t for _, t in tensors(out)]


@pytest.mark.parametrize("end", ["tuple", "dict", "dataclass"])
def test_infinities_that_the_net_returns_must_be_a_masks(end):
    class LogOfReLU(Log):
        def forward(self, x):
            return x.relu().log()

    class Masked(nn.Module):
        def forward(self, x):
            return x.masked_fill(torch.arange(32) % 3 == 0, -math.inf)

    torch.manual_seed(0)
    for aux, rules in ((LogOfReLU(), {"non_finite"}), (Masked(), set())):
        report = profile(TwoHeads(ENDS[end], aux), torch.randn(8, 16))
        assert rules_of(report) == rules and report["aux"].is_returned
        assert report["aux"].has_nan is False


def test_log_probabilities_of_masked_logits_are_a_masks():
    torch.manual_seed(0)
    for end in (nn.LogSoftmax(-1), Function(lambda z: z.log_softmax(-1))):
        net = nn.Sequential(nn.Linear(16, 16), Causal(), end)
        assert not rules_of(profile(net, torch.randn(16, 16)))
        worst = profile(nn.Sequential(nn.Linear(16, 16), Log(), end), torch.randn(16, 16)).findings[
            0
        ]
        assert worst.severity == "error"


def masked_rows(*after):
    """The scores of a row that is masked all over have no softmax but NaN."""

    def scores(z):
        mask = torch.zeros(z.shape[-2:], dtype=torch.bool)
        mask[0] = True
        return z.masked_fill(mask, -math.inf)

    return nn.Sequential(nn.Linear(16, 16), Function(scores), nn.Softmax(-1), *after)


def test_the_nan_of_rows_masked_all_over_may_be_replaced():
    class Replacing(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.last = masked_rows(), nn.Linear(16, 16)

        def forward(self, x):
            return self.last(self.rows(x).nan_to_num(0.0))

    x = torch.randn(16, 16)
    replaced = (Replacing(), masked_rows(Function(torch.nan_to_num), nn.Linear(16, 16)))
    for net in replaced:
        report = profile(net, x)
        said = " ".join(f.measured for f in report.findings[:2])
        assert not rules_of(report) and "put for its NaN" in said and "a mask's" in said
    worst = profile(masked_rows(), x).findings[0]
    assert worst.severity == "error"  # the first with such values is the mask itself


def test_nan_of_the_nets_own_input_may_be_replaced():
    class Impute(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Identity(), nn.Linear(16, 16)

        def forward(self, x):
            return self.last(self.first(x).nan_to_num(0.0))

    x = torch.randn(16, 16)
    x[x > 1] = math.nan
    assert not rules_of(profile(Impute(), x))


def test_a_report_remembers_nan_and_what_was_returned():
    report = profile(TwoHeads(ENDS["tuple"]), torch.randn(8, 16))
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert [(x.has_nan, x.is_returned) for x in again] == [
        (x.has_nan, x.is_returned) for x in report
    ]
    assert (
        report["aux"].has_nan and report["head"].is_returned and report.merge(report)["aux"].has_nan
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_a_card_tells_nan_too():
    net, x = TwoHeads(ENDS["dict"]).cuda(), torch.randn(8, 16, device="cuda")
    assert profile(net, x)["aux"].has_nan
