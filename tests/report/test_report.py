"""Report: reading and selecting what a profile found."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from cases.reports import layer, mlp, nested
from torch import nn

from initfast.profiling.profile import profile
from initfast.report.report import Report
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.weight import Weight


@pytest.fixture(scope="module")
def report():
    return profile(mlp(40, act=nn.ReLU), torch.randn(8, 16))


def test_layer_quotes_its_moments():
    post = Moments(10, 2, 3, 1, 0.5, 7.0, -1.0, 2.0)
    weight = Weight(4, 8, Moments(32, 0, 0, 0, 0.0, 31.0, -1.0, 1.0))
    one = Layer("a", "tanh", (5, 2), (5, 2), torch.float16, post, input=post, weight=weight)
    assert (one.mean, one.std, one.min, one.max) == (0.5, 1.0, -1.0, 2.0)
    assert one.rms == pytest.approx(math.sqrt(0.25 + 7 / 8))
    assert (one.zeros, one.saturated, one.nonfinite) == (0.3, 0.1, 0.2)
    assert one.gain == 1.0 and one.weight.std == 1.0 and one.has_nonfinite


def test_gain_at_the_edges():
    flat = Moments(4, 0, 0, 0, 1.0, 0.0, 1.0, 1.0)
    assert layer().gain is None
    assert layer(input=flat).gain == math.inf
    assert math.isnan(layer(std=0.0, input=flat).gain)
    assert math.isnan(layer(input=Moments(1, mean=1.0)).gain)


def test_gradients_are_kept_shown_and_compared_with_the_weight():
    weight = Weight(16, 8, Moments(128, mean=0.0, m2=127 * 4.0, min=-9.0, max=9.0))
    grads = Moments(128, mean=0.25, m2=127.0, min=-3.0, max=3.0)
    one = layer(weight=weight, grad=grads, weight_grad=grads)
    assert one.grad_to_weight == 0.5
    assert layer(weight=weight).grad_to_weight is None
    assert layer(grad=grads, weight_grad=grads).grad_to_weight is None
    assert Layer.from_dict(one.to_dict()) == one
    assert Layer.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert "grad rms" in str(Report([one])) and "grad rms" not in str(Report([layer()]))
    row = Report([one, layer()]).to_dataframe()
    assert row["grad_std"][0] == 1.0 and row["weight_grad_std"][0] == 1.0
    assert row["grad_to_weight"][0] == 0.5 and math.isnan(row["grad_std"][1])


def test_looking_up(report):
    assert len(report) == 40 and list(report) == report.layers
    assert report["4"] is report.layers[2] is report[2] is report["4", 0]
    assert report[-1] is report.layers[-1]
    with pytest.raises(KeyError, match="no layer is named 'nothing'; the names are '0', '2'"):
        report["nothing"]
    with pytest.raises(KeyError, match="layer '0' has 1 calls; call 1 was asked for"):
        report["0", 1]
    with pytest.raises(KeyError, match="the report is empty"):
        Report([])["x"]


def test_the_calls_of_a_module_and_the_tensors_of_a_call():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.attention = nn.LSTM(8, 8), nn.MultiheadAttention(8, 2)

        def forward(self, x):
            for _ in range(2):
                x, (h, c) = self.lstm(x)
                seen.append((x, h, c))
            return self.attention(x, x, x)[0]

    seen = []
    report = profile(Net(), torch.randn(3, 2, 8), loss=torch.sum)
    for call in (0, 1, -1):
        for i, t in enumerate(seen[call]):
            found = report["lstm", call, i]
            assert found.shape == t.shape and found.mean == pytest.approx(t.mean().item(), abs=1e-7)
        assert report["lstm", call] is report["lstm", call, 0] is report["lstm", call, -3]
    assert report["attention", 0, 1].op == "MultiheadAttention[1]"
    with pytest.raises(KeyError, match=r"has 3 tensors in call 1 \(LSTM\[0\], LSTM\[1\]\[0\], "):
        report["lstm", 1, 3]
    with pytest.raises(KeyError, match="layer 'lstm' has 2 calls; call 2 was asked for"):
        report["lstm", 2]
    again = Report.from_dict(json.loads(report.to_json()))
    assert again["lstm", 1, 2] == report["lstm", 1, 2]
    frame = report.to_dataframe().set_index("op")
    one = report["lstm"]
    assert frame.loc["LSTM[0]", "weight_hh_l0_std"].iloc[0] == one.weights["weight_hh_l0"].std
    grads = frame.loc["MultiheadAttention[0]"]
    assert grads["in_proj_weight_fan_in"] == 8
    expected = report["attention"].weight_grads["in_proj_weight"].rms
    assert grads["in_proj_weight_grad_rms"] == expected and math.isnan(grads["weight_hh_l0_std"])


def test_a_tensor_that_another_layer_made_begins_its_call():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            y = self.linear(x)
            return {"y": y, "double": y * 2}

    pair, x = Pair(), torch.ones(2, 4)
    report = profile(lambda: (pair(x), pair(x)), ())
    name = report[0].also[0]
    for call in (0, 1):
        assert [report[name, call, i].op for i in (0, 1)] == ["linear", "Pair['double']"]


def test_a_range_or_numpys_integer(report):
    assert report[1:3] == report.layers[1:3] and report[np.int64(2)] is report.layers[2]


class Block(nn.Module):
    """Its output is the second of two sums; it has both a softmax and a layer on the way."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.Tanh())

    def forward(self, x):
        x = x + self.first(x).softmax(-1)
        return x + self.last(x)


@pytest.mark.parametrize(
    "block",
    [Block(), nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, norm_first=True)],
    ids=["own", "transformer"],
)
@pytest.mark.parametrize("loss", [None, torch.sum])
def test_a_name_is_that_of_the_modules_output(block, loss):
    net, x = nn.Sequential(block, nn.Sequential(block)), torch.randn(3, 5, 6)
    report = profile(net, x, loss=loss)
    with torch.no_grad():
        y = block(x)
        z = block(y)
    for found, expected in [(report["0"], y), (report["0", 1], z), (report["1"], z)]:
        assert found.post.mean == pytest.approx(expected.double().mean().item(), abs=1e-6)
        assert found.post.std == pytest.approx(expected.double().std().item(), rel=1e-5)
    with pytest.raises(KeyError, match="has 2 calls"):
        report["0", 2]
    on_the_way = [one for one in report if not one.is_output]
    assert on_the_way and all(one.name == "0" for one in on_the_way)
    again = Report.from_dict(json.loads(report.to_json()))
    assert again["0"] == report["0"] and report.merge(again)["0"].also == report["0"].also


def test_what_functions_made_is_found_where_the_output_is_not_measured():
    class Counts(nn.Module):
        def forward(self, x):
            return torch.tanh(x).argmax(-1)

    report = profile(nn.Sequential(Counts()), torch.randn(2, 3))
    assert report["0"].op == "tanh" and not report["0"].is_output


def test_layers_are_made_when_asked_for():
    asked = []
    report = Report(lambda: asked.append(1) or ([layer()], [GOOD]))
    assert not asked
    assert report.layers is report.layers and report.inputs == (GOOD,) and len(asked) == 1
    again = pickle.loads(pickle.dumps(Report(lambda: ([layer()], []))))
    assert again.layers == [layer()]


# ---- parts of a report ----


@pytest.mark.parametrize(
    "filters, found",
    [
        ({"name": "body.*"}, ["body.0.conv", "body.0", "body.1.conv", "body.1"]),
        ({"name": "body"}, ["body.1"]),
        ({"type": "Block"}, ["body.0", "body.1"]),
        ({"type": "*+ relu"}, ["body.0", "body.1"]),
        ({"type": "conv"}, ["body.0.conv", "body.1.conv"]),
        ({"depth": 1}, ["stem", "body.1", "head"]),
        ({"depth": 2}, ["stem", "body.0", "body.1", "head"]),
        ({"name": "body.*", "type": "Block", "depth": 2}, ["body.0", "body.1"]),
        ({"depth": 0}, []),
        ({}, ["stem", "body.0.conv", "body.0", "body.1.conv", "body.1", "head"]),
    ],
)
def test_select(filters, found):
    report = nested()
    selected = report.select(**filters)
    assert [one.name for one in selected] == found
    said = (
        []
        if found
        else [f"No layer fits select({', '.join(f'{k}={v!r}' for k, v in filters.items())}); "]
    )
    assert [note.partition("the names")[0] for note in selected.notes] == report.notes + said
    assert selected.root == report.root == "net.module"
    assert bool(selected.skipped) == (filters in ({}, {"depth": 1}, {"depth": 2}))


def test_the_types_of_all_modules_whose_output_it_is_are_selected():
    report = profile(mlp(2, act=nn.ReLU), torch.randn(2, 16))
    assert [one.name for one in report.select(type="ReLU")] == ["0", "2"]
    assert [one.name for one in report.merge(report).select(type="ReLU")] == ["0", "2"]
    assert not len(report.select(type="Tanh"))


def test_a_block_is_found_by_its_name_though_another_layer_made_its_output():
    report = nested()
    assert report["body"] is report["body.1"]


def test_remarks_stand_below_the_table():
    table, below = str(nested()).split(
        "\nA note.\nNot measured: Stem[1] at 'stem' (torch.int64).\n\n"
    )
    assert table.splitlines()[-1].startswith("head") and below.startswith("no errors or warnings; ")
    assert "<p>A note.</p>" in nested()._repr_html_()


# ---- where a non-finite value comes from ----

GOOD, BAD = Moments(8, 0, 0, 0, 0.0, 7.0, -1.0, 2.0), Moments(8, 3, 0, 0, 0.0, 4.0, -1.0, 2.0)
POINTS_OUT = "The first non-finite value: in the output of 'b' (exp); input -1.000 to 2.000"


def bad_layer(**more):
    return Layer("b", "exp", (8,), (8,), torch.float16, BAD, **{"input": GOOD, **more})


@pytest.mark.parametrize(
    "second, inputs, end",
    [
        ({}, [], "2.000."),
        ({"weight": Weight(2, 2, GOOD)}, [], "; weight -1.000 to 2.000."),
        ({"weight": Weight(2, 2, BAD)}, [], "non-finite. They were in its weight already."),
        ({"nonfinite_parameters": ("bias",)}, [], "They were in its parameters already: bias."),
        ({"further_inputs": (GOOD,)}, [BAD], "input -1.000 to 2.000."),
        (
            {"input": BAD},
            [GOOD],
            " and 3 of 8 non-finite. They were in its input already: plain code made them, after "
            "'a' (linear).",
        ),
        ({"further_inputs": (BAD,)}, [BAD], "They were in the net's own input already."),
    ],
)
def test_the_origin_of_the_first_nonfinite_value(second, inputs, end):
    report = Report([layer("a"), bad_layer(**second), bad_layer(input=BAD)], inputs)
    assert report.origin.startswith(POINTS_OUT) and report.origin.endswith(end)
    assert report.first_nonfinite is report.layers[1]
    assert report.origin.split()[-1] in str(report)
    assert Report([layer("a")]).origin == ""
