"""A report kept: as JSON, as a dict, as a data frame."""

import json
import math
import pickle
import sys
from datetime import datetime, timedelta, timezone

import pytest
import torch
from cases.reports import layer, mlp
from torch import nn

import initfast
from initfast.profiling.profile import profile
from initfast.report.report import Report
from initfast.report.saving import SCHEMA
from initfast.stats.as_dict import json_text
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
    """Equality where NaN equals itself."""
    return json_text([x.to_dict() for x in a]) == json_text([x.to_dict() for x in b])


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


def test_a_report_is_loaded_with_its_run(report, tmp_path):
    path = tmp_path / "report.json"
    torch.manual_seed(1234)
    report = profile(nn.Linear(4, 2).double(), torch.randn(3, 4).double())
    report.to_json(path)
    again = Report.load(path)
    assert same(again, report) and again.run == report.run and again.findings == report.findings
    assert (again.run.device, again.run.dtype, again.run.seed) == ("cpu", "float64", 1234)
    assert (again.run.initfast, again.run.torch) == (initfast.__version__, torch.__version__)
    assert datetime.now(timezone.utc) - datetime.fromisoformat(again.run.date) < timedelta(hours=1)
    assert again.select("x").run == again.merge(report).run == report.run
    assert pickle.loads(pickle.dumps(report)).run == report.run


def test_what_is_no_report_is_not_loaded(report, tmp_path):
    path = tmp_path / "report.json"
    page = report.to_html()
    damaged = [report.to_dict() | change for change in ({"layers": [{}]}, {"outcome": [1]})]
    foreign = [
        "",
        "{",
        "[1]",
        '{"loss": 1}',
        '{"layers": 5}',
        "[" * 100_000,
        page[: len(page) // 2],
        "\0",
    ]
    for text in [*foreign, *map(json_text, damaged)]:
        path.write_text(text)
        with pytest.raises(ValueError, match=r"report\.json is no report as to_json or to_html"):
            Report.load(path)
    path.write_bytes(b"PK\x03\x04\x80\xff")  # what torch.save writes
    with pytest.raises(ValueError, match=r"report\.json is no report as to_json or to_html"):
        Report.load(path)
    later = report.to_dict() | {"schema": SCHEMA + 1}
    path.write_text(json_text(later))
    with pytest.raises(
        ValueError, match=f"schema {SCHEMA + 1}, from initfast {later['run']['initfast']}"
    ):
        Report.load(path)
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "nothing")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_report_comes_back_with_its_loss_from_json_and_from_a_page(newline, tmp_path):
    x = torch.randn(8, 4)
    report = profile(nn.Linear(4, 2), x, loss=nn.functional.mse_loss, targets=x[:, :2])
    for text in (report.to_json(), report.to_html()):
        path = tmp_path / "report"
        path.write_text(text, encoding="utf-8-sig", newline=newline)
        assert Report.load(path).loss == report.loss


def test_a_report_from_before_there_was_a_schema():
    old = Report([layer()]).to_dict()
    del old["schema"], old["run"]
    assert Report.from_dict(old).run is None


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
