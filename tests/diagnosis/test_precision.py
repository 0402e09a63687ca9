"""How precise findings are: which rules speak of nets whose faults are known."""

import json
import math

import pytest
import torch
from nets.labelled import MADE, rules_of
from nets.labelled_gradients import GRADED, GRADIENT_RULES, distance
from nets.labelled_residuals import WITH_BLOCKS
from nets.well_known import WELL_KNOWN

from initfast import profile
from initfast.diagnosis.diagnosing import RULES
from initfast.report.report import Report

CASES = MADE + WITH_BLOCKS + WELL_KNOWN


def reports(cases, **options):
    """Each labelled net with its report."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    for seed, case in enumerate(cases):
        torch.manual_seed(seed)
        net = case.build().train(case.training)
        found.append((case, profile(net, case.x(), **options)))
    torch.set_num_threads(threads)
    return found


@pytest.fixture(scope="module")
def labelled():
    return reports(CASES)


@pytest.fixture(scope="module")
def graded():
    return reports(GRADED, loss=distance)


def confusion(found):
    """True and false positives and negatives of each rule; a case's `may` counts for neither."""
    table = {rule: {"hit": 0, "miss": [], "false": [], "quiet": 0} for rule in RULES}
    for case, report in found:
        said = rules_of(report)
        for rule, row in table.items():
            if rule in case.faults:
                if rule in said:
                    row["hit"] += 1
                else:
                    row["miss"].append(case.name)
            elif rule not in case.may:
                if rule in said:
                    row["false"].append(case.name)
                else:
                    row["quiet"] += 1
    wrong = {rule: (row["miss"], row["false"]) for rule, row in table.items()}
    assert wrong == {rule: ([], []) for rule in RULES}
    return table


def test_the_labelled_nets_are_many_and_different():
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    good = [case for case in CASES if not case.faults]
    assert len(good) >= 30 and len(CASES) - len(good) >= 30


def test_confusion(labelled):
    table = confusion(labelled)
    unlabelled = {"unit_variance", "gradient_vanishing", "no_gradient"}  # info only; need a loss
    unlabelled |= {"initial_loss"}  # test_thresholds
    unlabelled |= {"recurrent", "constant_output", "one_direction"}  # test_constant, test_whole_net
    unlabelled |= {"departure", "attention_logits"}  # tests/prediction, test_attention
    unlabelled |= {"loss_arguments", "constant_input"}  # test_reported
    unlabelled |= {"drowned_embedding"}  # test_kinds_of_fault
    assert {rule for rule, row in table.items() if row["hit"] == 0} == unlabelled
    assert all(row["quiet"] >= 60 for row in table.values())


def test_confusion_with_gradients_measured(graded):
    table = confusion(graded)
    assert all(table[rule]["hit"] >= 7 and table[rule]["quiet"] >= 60 for rule in GRADIENT_RULES)
    for case, report in graded:
        skipped = [s.reason for s in report.skipped_checks if s.rule in GRADIENT_RULES]
        # A batch norm that has seen no data is not judged, nor are nets without three like layers.
        assert not case.training or all("follow one another" in reason for reason in skipped)


def test_what_is_said_of_gradients(graded):
    found = {case.name: report for case, report in graded}

    def worst(name, rule):
        return next(f for f in found[name].findings if f.rule == rule)

    deep = worst("sigmoid 20, Xavier", "gradient_vanishing")
    assert (deep.severity, deep.first, deep.last) == ("error", 0, 20)
    # fan_in Var(w) is 1, and the slope at most 1/4, somewhat less off the centre.
    assert -44 < math.log2(deep.value) < -40
    assert "slope is at most 1/4" in deep.cause
    wide = worst("linear 20, N(0, 4/n)", "gradient_explosion")
    assert 19 < math.log2(wide.value) < 21
    assert "lecun_normal_" in wide.code
    assert "Yang et al. 2019" in worst("batch norm 50", "gradient_explosion").cause


def test_every_report_prints_within_its_width_and_keeps(labelled):
    for _, report in labelled:
        assert max(map(len, str(report).splitlines())) <= 100
        for finding in report.findings:
            assert max(map(len, str(finding).splitlines())) <= 100
        kept = json.loads(report.to_json())
        assert [f["rule"] for f in kept["findings"]] == [f.rule for f in report.findings]
        again = Report.from_dict(kept)
        assert [str(f) for f in again.findings] == [str(f) for f in report.findings]


def test_findings_point_into_the_report(labelled):
    for _, report in labelled:
        order = ["error", "warning", "info"]
        ranks = [order.index(f.severity) for f in report.findings]
        assert ranks == sorted(ranks)
        for finding in report.findings:
            assert 0 <= finding.first <= finding.last < len(report)
            ends = (report[finding.first].name, report[finding.last].name)
            assert finding.names == ends
            assert finding.rule in RULES and finding.measured and finding.source
