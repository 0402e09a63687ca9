"""Nets after public reports: the finding that leads, its layer, its words, and its cure."""

import copy
from dataclasses import replace

import pytest
import torch
from nets.labelled import rules_of
from nets.reported import REPORTED
from nets.reported_modules import Coupling, data
from torch import nn

import initfast
from initfast import profile
from initfast.diagnosis.findings import summary


@pytest.mark.parametrize("case", REPORTED, ids=lambda case: case.name)
def test_the_cause_leads_and_its_code_cures(case):
    torch.manual_seed(0)
    net, x = case.net(), case.x()
    report = profile(net, x, loss=case.loss)
    if not case.rule:
        assert not rules_of(report)
        return
    first = report.findings[0]
    assert (first.rule, first.names[0], first.follows) == (case.rule, case.layer, "")
    said = " ".join(str(first).split())
    assert all(words in said for words in case.says), said
    assert not [f for f in report.findings if f.severity == "error" and not f.follows][1:]
    if first.code:
        other = copy.deepcopy(net)
        exec(first.code, {"net": other, "report": report, "initfast": initfast})
        assert case.rule not in rules_of(profile(other, x, loss=case.loss))
    else:
        assert not case.cured or case.rule == "non_finite"


def test_what_follows_is_told_in_short_after_its_cause():
    torch.manual_seed(0)
    report = profile(nn.Sequential(*[Coupling(20.0) for _ in range(4)]), data(16, 8)())
    bad = next(f for f in report.findings if f.rule == "non_finite")
    assert bad.follows and bad.code and "Do:" in str(bad)
    text = summary(report.findings)
    assert text.index("weight scale") < text.index("non finite")
    assert "Do:" not in text[text.index("error: non finite") :].partition("info")[0]
    assert str(replace(bad, follows="")) == replace(bad, follows="").in_short
