"""The code of findings, run as it is pasted: how much of it there is, and how much of it cures.

A slice of the labelled nets runs always, all of them and the mutants of the nets that are written
here with INITFAST_LONG_FUZZ=1.
"""

import copy
import os
import zlib
from collections import Counter

import pytest
import torch
from nets.faults import FAULTS, distance
from nets.healthy import OWN
from nets.healthy_sequences import ON_SEQUENCES
from nets.heldout import HELD_OUT
from nets.labelled import MADE
from nets.well_known import WELL_KNOWN
from torch import nn

import initfast
from initfast import profile

LONG = os.environ.get("INITFAST_LONG_FUZZ") == "1"
SLICE = 1 if LONG else 8
MOST_EACH = 3
"""Of one net's findings so many are tried."""


def faulty():
    """Nets with a fault, as a function that makes each, their input and how they are profiled."""
    for case in [*MADE, *WELL_KNOWN, *HELD_OUT]:
        if case.faults and not zlib.crc32(case.name.encode()) % SLICE:
            yield case.name, lambda case=case: case.build().train(case.training), case.x, None
    for healthy in OWN + ON_SEQUENCES:
        for fault in FAULTS:
            name = f"{healthy.name}: {fault.name}"
            if not zlib.crc32(name.encode()) % (3 * SLICE):
                yield name, lambda h=healthy, f=fault: put(h, f), healthy.x, distance


def put(healthy, fault):
    """The net with the fault; None where it has no place."""
    net = healthy.build().train()
    with torch.no_grad():
        return None if fault.put(net) is None else net


def serious(report):
    return [f for f in report.findings if f.severity != "info"]


def is_gone(finding, after):
    """Whether no finding of the rule and the threshold speaks of one of the layers."""
    line = finding.rule, finding.threshold
    same = [f for f in serious(after) if (f.rule, f.threshold) == line]
    return not any(f.first <= finding.last and finding.first <= f.last for f in same)


def test_findings_have_code_and_it_cures():
    torch.set_num_threads(1)
    table, without, uncured = Counter(), Counter(), []
    for name, build, x, loss in faulty():
        torch.manual_seed(zlib.crc32(name.encode()))
        net, given = build(), x()
        if net is None:
            continue
        report = profile(net, given, loss=loss)
        for finding in serious(report):
            table["findings"] += 1
            table["with code"] += bool(finding.code)
            without[finding.rule] += not finding.code
        for finding in [f for f in serious(report) if f.code][:MOST_EACH]:
            other = copy.deepcopy(net)
            exec(finding.code, {"net": other, "report": report, "initfast": initfast})
            after = profile(other, given, loss=loss)
            table["tried"] += 1
            table["gone"] += is_gone(finding, after)
            uncured += [] if is_gone(finding, after) else [(name, finding.rule, finding.measured)]
    print(dict(table), dict(without), uncured)
    assert table["tried"] >= 20
    assert table["gone"] >= 0.95 * table["tried"], (table, uncured)


def far(net, mean):
    with torch.no_grad():
        net[1].bias.fill_(mean)
    return net


@pytest.mark.parametrize(
    "build, rule",
    [
        (lambda: far(nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64)), -40.0), "dead_units"),
        (lambda: far(nn.Sequential(nn.Identity(), nn.Linear(32, 64)), 9.0), "mean_drift"),
    ],
)
def test_biases_that_are_far_off_are_put_right_by_code(build, rule):
    torch.manual_seed(0)
    net, x = nn.Sequential(*build(), nn.ReLU(), nn.Linear(64, 8)), torch.randn(64, 32)
    report = profile(net, x)
    found = [f for f in serious(report) if f.rule == rule]
    assert found and all(f.code for f in found)
    exec(found[0].code, {"net": net, "report": report, "initfast": initfast})
    assert not [f for f in serious(profile(net, x)) if f.rule == rule]


def test_layers_behind_a_dead_one_are_not_called_dead():
    torch.manual_seed(0)
    layers = [m for _ in range(4) for m in (nn.Linear(32, 32, bias=False), nn.Flatten(), nn.ReLU())]
    net = nn.Sequential(*layers)
    with torch.no_grad():
        net[0].weight.abs_().neg_()
    report = profile(net, torch.rand(64, 32))
    assert [f.names for f in serious(report) if f.rule == "dead_units"] == [("2", "2")]
