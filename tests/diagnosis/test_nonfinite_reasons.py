"""Which function made the NaN, of what numbers, and why: nets whose faults are known."""

import re

import pytest
import torch
from nets.labelled import rules_of
from nets.nonfinite import MADE, MEANT
from torch import nn

from initfast import profile
from initfast.diagnosis.function_calls import FunctionCall
from initfast.diagnosis.nonfinite_reasons import reason
from initfast.report.report import Report


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("case", MADE, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore")  # torch's own, of a std of one value
def test_the_function_and_its_numbers_are_named(case, stop):
    torch.manual_seed(0)
    report = profile(case.net(), case.x(), loss=case.loss, stop_at_nonfinite=stop)
    serious = [f for f in report.findings if f.severity != "info"]
    findings = [f for f in serious if f.rule == "non_finite"]
    assert len(findings) == 1 and (findings[0] is serious[0] or findings[0].follows)
    words = re.sub(r"\s+", " ", str(findings[0]))
    assert [said for said in case.says if said not in words] == [], words
    if not stop:
        assert findings[0].names[0] == case.layer
    assert ("nonfinite.py:" in words) == case.at
    assert findings[0].cause and findings[0].advice
    assert str(Report.from_dict(report.to_dict())) == str(report)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("name", MEANT)
def test_what_is_meant_or_taken_care_of_is_no_fault(name, stop):
    build, x = MEANT[name]
    torch.manual_seed(0)
    report = profile(build(), x(), stop_at_nonfinite=stop)
    assert "non_finite" not in rules_of(report)
    assert report.outcome.source is None


def called(name, *args, **kwargs):
    """A call of one of torch's functions."""
    return FunctionCall(name, args, kwargs, getattr(torch, name)(*args, **kwargs))


def test_nothing_is_said_where_nothing_follows():
    x = torch.ones(4)
    unknown = FunctionCall("renorm_by_magic", [x], {}, x * torch.inf)
    assert reason(unknown) == ("", "")
    # It is not what these numbers sum to that is infinite.
    assert reason(FunctionCall("mm", [x[None], x[:, None]], {}, x * torch.inf)) == ("", "")
    assert reason(FunctionCall("sum", [x], {}, x.sum() * torch.inf)) == ("", "")
    assert reason(FunctionCall("layer_norm", [x, [4]], {}, x * torch.nan)) == ("", "")
    assert reason(FunctionCall("sqrt", [x], {}, x * torch.nan)) == ("", "")


@pytest.mark.parametrize(
    "dtype, limit", [(torch.float16, "11.09"), (torch.float32, "88.72"), (torch.float64, "709.8")]
)
def test_the_limit_is_that_of_the_dtype(dtype, limit):
    top = float(limit)
    assert called("exp", torch.tensor([0.999 * top], dtype=dtype)).output.isfinite().all()
    beyond = called("exp", torch.tensor([1.0, 1.01 * top], dtype=dtype))
    assert beyond.output.isinf().tolist() == [False, True]
    assert reason(beyond).why.endswith(f"overflows above {limit}")


def of(name, *args):
    """What is said of a call of one of torch's operators."""
    return reason(FunctionCall(name, args, {}, getattr(torch.ops.aten, name)(*args))).why


@pytest.mark.parametrize(
    "name, number, says",
    [
        ("exp2", 128.0, "exp2 of 128.0000000; float32 overflows above 127.9999999"),
        ("cosh", -91.0, "cosh of -91.00; float32 overflows above 89.42 and below -89.42"),
        ("acos", 1.0001, "acos of 1.0001 is NaN: 1 of 2 values of its input are outside -1 to 1"),
        ("asin", torch.inf, "asin of inf is NaN: 1 of 2 values of its input are outside -1 to 1"),
    ],
)
def test_a_number_at_a_limit_is_told_from_it(name, number, says):
    assert of(name, torch.tensor([0.0, number])) == says


def test_counts_and_scalars_are_those_of_the_operands():
    # 0 / 0 at one place, and a divisor of 0 at all.
    assert of("div", torch.arange(4.0), 0.0).endswith("the divisor is 0 at 4 of 4 values")
    assert of("mul", torch.ones(2), 1e39) == "1.000 × 1.000e+39 is beyond float32's 3.403e+38"
    assert of("div", torch.ones(2) * 1j, 0.0) == ""


def test_squares_are_blamed_only_where_they_overflow():
    x = torch.tensor([[1e25, 1e25, 3.0], [1e25, 1e25, 4.0]])
    far = torch.tensor([[0.0, 0.0, 1e20], [0.0, 0.0, -1e20]])
    assert "deviations of 1.000e+20 or more" in of("var", x + far, [0])
    # Half as wide squares are summed in float32: it is the scale that takes these beyond.
    half, scale = torch.randn(2, 512).half() * 300, torch.full((512,), 6e4).half()
    normed = torch.layer_norm(half, [512], scale, None, 1e-5)
    call = FunctionCall("layer_norm", [half, [512], scale, None, 1e-5], {}, normed)
    assert normed.isinf().any() and reason(call).why == ""
    # Batch norm in evaluation takes no deviations.
    args = [1e25 * torch.tensor([[1.0], [-1.0]]), None, None, torch.zeros(1), -torch.ones(1)]
    normed = torch.native_batch_norm(*args, False, 0.1, 1e-5)[0]
    assert reason(FunctionCall("batch_norm", [*args, False, 0.1, 1e-5], {}, normed)).why == ""
    args[3:] = [torch.zeros(1), torch.ones(1), True, 0.1, 1e-5]
    normed = torch.native_batch_norm(*args)[0]
    call = FunctionCall("batch_norm", args, {}, normed)
    assert normed.isfinite().all() or "deviations of 1.000e+25" in reason(call).why


def test_a_transposed_convolution_sums_over_what_comes_in():
    x, w = torch.full((1, 4, 3), 1e20), torch.full((4, 8, 2), 1e20)
    says = of("convolution", x, w, None, [1], [0], [1], True, [0], 1)
    assert says.startswith("it sums 8 products of")


def test_no_targets_are_not_ignored_targets():
    loss = torch.nn.functional.nll_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    args = [torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), None, 1, -100]
    assert reason(FunctionCall("nll_loss", args, {}, loss)).why == "the mean of no values is NaN"
    image = [torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), -100), None, 1, -100]
    assert of("nll_loss2d", *image).startswith("all 4 targets are -100")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ([], ""),
        ([nn.ReLU()], "; the layer after it has such values too"),
        ([nn.Linear(4, 4), nn.Linear(4, 4)], "; 2 of the 2 layers after it have such values too"),
    ],
)
def test_how_far_it_spreads_is_told_in_plain_words(after, words):
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    net = nn.Sequential(nn.Linear(4, 4), Log(), *after)
    (found,) = [f for f in profile(net, -torch.ones(2, 4)).findings if f.rule == "non_finite"]
    assert words in " ".join(found.measured.split()) and "of the 0" not in found.measured
