"""Which function made the NaN, of what numbers, and why: nets whose faults are known."""

import re

import pytest
import torch
from nets.labelled import rules_of
from nets.nonfinite import MADE, MEANT

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
    assert len(findings) == 1 and findings[0] is serious[0]
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
