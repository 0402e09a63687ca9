"""A report kept: as JSON, as a dict, as a data frame."""

import json
import math
import sys

import pytest
import torch
from cases.reports import layer, mlp
from torch import nn

from initfast.profiling.profile import profile
from initfast.report.report import Report
from initfast.stats.layer import Layer, Skipped
from initfast.stats.moments import Moments

GOOD, BAD = Moments(8, 0, 0, 0, 0.0, 7.0, -1.0, 2.0), Moments(8, 3, 0, 0, 0.0, 4.0, -1.0, 2.0)


@pytest.fixture(scope="module")
def report():
    return profile(mlp(40, act=nn.ReLU), torch.randn(8, 16))


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def same(a, b):
    """Equality where NaN equals itself: the reprs of dataclasses show every field."""
    return repr(a.layers) == repr(b.layers)


def test_json_round_trip(report, tmp_path):
    path = tmp_path / "report.json"
    text = report.to_json(path)
    assert path.read_text().strip() == text.strip()
    assert same(Report.from_dict(strict(text)), report)
    assert same(Report.from_dict(report.to_dict()), report)
    assert strict(text)["layers"][0]["post"]["std"] == report.layers[0].std
    bad = layer("b", post=BAD, input=GOOD, also=("c",), type="E", further_inputs=(GOOD,))
    full = Report([bad], [BAD], [], ["n"], "net.module")
    again = Report.from_dict(strict(full.to_json()))
    assert same(again, full) and (again.inputs, again.notes) == (full.inputs, full.notes)
    assert again.root == full.root
    parts = Report([], skipped=[Skipped("stem", "Stem[1]", "torch.int64")])
    assert Report.from_dict(strict(parts.to_json())).skipped == parts.skipped


def test_a_dict_that_does_not_say_where_the_names_are():
    old = Report([layer()]).to_dict()
    del old["root"]
    assert Report.from_dict(old).root == "net"


def test_json_spells_what_json_lacks():
    nothing = Moments(3, 3)
    ends = {"alpha": 0.0, "beta": math.inf}
    report = Report([Layer("a", "linear + hardtanh", None, (3,), torch.bfloat16, nothing, **ends)])
    entry = strict(report.to_json())["layers"][0]
    assert entry["post"]["mean"] == "NaN" and entry["post"]["max"] == "-Infinity"
    assert entry["gain"] is None and entry["dtype"] == "bfloat16"
    assert same(Report.from_dict(strict(report.to_json())), report)


def test_dataframe(report):
    import pandas

    frame = report.to_dataframe()
    assert len(frame) == 40
    assert list(frame["name"]) == [one.name for one in report]
    assert frame["std"].tolist() == [one.std for one in report]
    assert frame["weight_std"].iloc[0] == report.layers[0].weight.std
    assert frame["fan_in"].iloc[0] == 16 and frame["dtype"].iloc[0] == "float32"
    mixed = Report([layer(), layer(input=Moments(2, mean=0.0, m2=1.0))]).to_dataframe()
    assert pandas.isna(mixed["gain"].iloc[0]) and list(mixed.columns) == list(frame.columns)


def test_without_pandas(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'initfast\[frame\]'"):
        report.to_dataframe()
