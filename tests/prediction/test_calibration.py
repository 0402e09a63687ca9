"""How many layers are predicted, and how many lie within their bands."""

import sys
from pathlib import Path

import pytest

import initfast

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def counts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import prediction
    import prediction_nets

    yield prediction, prediction.counted(prediction_nets.KINDS, range(2))
    for name in ("prediction", "prediction_nets"):
        sys.modules.pop(name, None)


def test_bands_hold_what_they_promise(counts):
    prediction, found = counts
    total = prediction.Count()
    for count in found.values():
        total.merge(count)
    assert len(found) == 10 and total.layers > 300
    assert total.predicted >= 0.9 * total.layers
    for offs in (total.cumulative, total.local):
        assert len(offs) > 150
        assert 0.4 <= prediction.share_within(offs, 0.6745) <= 0.6
        assert prediction.share_within(offs, 2.5758) >= 0.95


def test_no_healthy_net_departs(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import prediction_nets

    for kind in prediction_nets.KINDS:
        findings = initfast.profile(*prediction_nets.drawn(kind, 0)).findings
        assert [f for f in findings if f.rule == "departure"] == []
    sys.modules.pop("prediction_nets", None)
