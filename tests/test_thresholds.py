"""Thresholds: where their lines come from, and that others can be drawn."""

import math

import pytest
from diagnosis_cases import report_of, said
from labelled_nets import he, mlp, normal, torch_default
from torch import nn

import initfast
from initfast.diagnosis import diagnose
from initfast.report import Report
from initfast.thresholds import THRESHOLDS


def test_thresholds_can_be_replaced():
    _, report = report_of(mlp(nn.Tanh, normal(2.0), 3))
    assert not said(*report, rule="saturation")
    strict = diagnose(report, {"saturation_early": 0.01}).findings
    assert [f.threshold for f in strict if f.rule == "saturation"] == [0.01]
    _, deep = report_of(mlp(nn.ReLU, torch_default, 40, bias=None))
    relaxed = diagnose(deep, {"gradient_vanishing": 1e-30}).findings
    assert "vanishing" not in {f.rule for f in relaxed if f.severity != "info"}


def test_unknown_thresholds_are_refused():
    report = Report([])
    with pytest.raises(ValueError, match="no threshold is named 'saturation'; expected one"):
        diagnose(report, {"saturation": 1.0})
    for value in (-1.0, math.nan, "1", True):
        with pytest.raises(ValueError, match="threshold 'unit_std' is"):
            diagnose(report, {"unit_std": value})


def test_every_threshold_has_a_source_and_a_use():
    _, report = report_of(he())
    assert all(t.what and t.source for t in THRESHOLDS.values())
    assert report.findings == diagnose(report).findings == initfast.diagnose(report).findings
    assert diagnose(Report([])).findings == []
