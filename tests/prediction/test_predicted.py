"""report.predicted: what is said of a net, and what is not."""

import json
import math

import pytest
import torch
from torch import nn

import initfast
from initfast.prediction.activations import activated, activation_mesh
from initfast.prediction.signal import Signal
from initfast.theory.elementwise import Elementwise


def test_who_feeds_whom_survives_a_file(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 4),
    )  # fmt: skip
    report = initfast.profile(net, torch.randn(4, 3, 8, 8))
    report.to_json(tmp_path / "a.json")
    loaded = initfast.Report.load(tmp_path / "a.json")
    assert str(loaded.predicted) == str(report.predicted)
    assert not any(x.restarts or x.remark for x in loaded.predicted)


def test_a_report_of_an_older_version_lacks_the_biases_and_says_so():
    report = initfast.profile(nn.Linear(8, 4), torch.randn(16, 8))
    data = json.loads(report.to_json())
    for layer in data["layers"]:
        del layer["vectors"], layer["settings"]
    (only,) = initfast.Report.from_dict(data).predicted
    assert only.cumulative is None and "bias" in only.remark


def test_after_unknown_functions_the_next_layer_is_predicted_again():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, x):
            return self.last(torch.cumsum(self.first(x), -1))

    torch.manual_seed(0)
    first, last = initfast.profile(Net(), torch.randn(32, 64)).predicted
    assert not first.restarts and last.restarts and "functions" in last.remark
    low, high = last.cumulative.band(0.999)
    assert low < last.rms < high
    assert last.remark in str(initfast.predict_scales(Net(), torch.randn(32, 64)))


def test_what_has_no_theory_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, -1)

    odd, after = initfast.profile(
        nn.Sequential(Odd(), nn.Linear(8, 8)), torch.randn(64, 8)
    ).predicted
    assert odd.cumulative is None and odd.remark == "there is no theory here of Odd"
    assert after.restarts and after.local is not None
    (recurrent,) = initfast.profile(nn.LSTM(4, 4), torch.randn(3, 2, 4)).predicted.layers[:1]
    assert "LSTM" in recurrent.remark


def test_where_the_band_is_wider_than_a_factor_of_ten_nothing_is_predicted():
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(8, 8), nn.ReLU())])
    for layer in net[::2]:
        nn.init.kaiming_normal_(layer.weight)
    prediction = initfast.profile(net, torch.randn(1, 8)).predicted
    assert not prediction[-1].cumulative.is_sharp and prediction[-1].local is not None
    assert "not predictable from here" in str(prediction)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1)),
        nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1), nn.GELU()),
        nn.Sequential(nn.Dropout(1.0), nn.ReLU(), nn.Linear(1, 3)),
    ],
)
@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), 1e30])
def test_odd_nets_and_values_raise_nothing(net, value):
    prediction = initfast.profile(net, torch.full((4, 1), value)).predicted
    assert len(prediction) and str(prediction)


def test_no_layers_no_rows():
    prediction = initfast.Report([]).predicted
    assert list(prediction) == [] and repr(prediction) == "Prediction(0 of 0 layers)"
    with pytest.raises(KeyError, match="'a'"):
        prediction["a"]


def test_a_merged_and_a_selected_report_are_predicted_anew():
    net, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(16, 8)
    report = initfast.profile(net, x)
    assert len(report.predicted) == 2 and len(report.select("0").predicted) == 1
    both = report.merge(initfast.profile(net, 3 * x)).predicted
    assert both[1].cumulative is not None and not both[1].restarts


def test_weights_that_know_their_input_depart_from_theory():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)), torch.randn(32, 64)
    assert "departure" not in {f.rule for f in initfast.profile(net, x).findings}
    with torch.no_grad():
        _, _, right = torch.linalg.svd(net[1](net[0](x)))
        sign = torch.ones(64, 1)
        sign[::2] = -1
        net[2].weight.copy_(sign * right[0] / 8)
    report = initfast.profile(net, x)
    (finding,) = [f for f in report.findings if f.rule == "departure"]
    assert finding.severity == "info" and finding.names == ("2", "2")
    assert finding.value == pytest.approx(report[1].rms / report.predicted[1].local.rms, rel=0.02)
    assert "its weights say" in finding.measured


@pytest.mark.parametrize("value", [1e300, 1e160, 1e80, 1e-80, 1e-300])
def test_values_whose_powers_float64_does_not_hold_are_named(value):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    report = initfast.profile(net, value * torch.randn(16, 8, dtype=torch.float64))
    first, last = report.predicted
    assert first.cumulative is None and "float64" in first.remark
    assert last.restarts and 0.3 < last.local.rms / last.rms < 3
    assert "float64" in report.explain("0") and "Measured" in report.explain("2")


def deep(layers):
    torch.manual_seed(0)
    pairs = [m for _ in range(layers) for m in (nn.Linear(16, 16), nn.Tanh())]
    return initfast.profile(nn.Sequential(*pairs), torch.randn(8, 16))


def test_a_function_is_computed_as_often_for_many_layers_as_for_few(monkeypatch):
    calls, value = [], Elementwise.__call__
    monkeypatch.setattr(Elementwise, "__call__", lambda f, x: calls.append(x.size) or value(f, x))
    counts = []
    for layers in (30, 120):
        activation_mesh.cache_clear()
        calls.clear()
        assert len(deep(layers).predicted) == layers
        counts.append(len(calls))
    assert counts[1] <= counts[0] + 3


@pytest.mark.parametrize("std", [1e-16, 5.6e-19])
def test_a_spread_that_float64_does_not_resolve_is_none(std):
    x = torch.ones(100, 400, dtype=torch.float64)
    x[0, 0] = 1 - 2**-53  # whose std is 5.6e-19
    report = initfast.profile(nn.Sequential(nn.Tanh(), nn.Linear(400, 4)).double(), x)
    assert report.inputs[0].std == pytest.approx(5.6e-19, rel=0.02) and str(report)
    signal = activated(Signal(1.0, std**2), activation_mesh("tanh", None, None), 4, 16)
    assert signal.var == 0 and signal.mean == pytest.approx(math.tanh(1), rel=1e-12)


def test_long_nets_print_what_is_predicted():
    assert "predicted" in str(deep(120)).splitlines()[0]
