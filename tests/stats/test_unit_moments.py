"""What a layer's units tell of its samples: correlation, batch_std, unit_spread, outlier_ratio."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import initfast
from initfast.recording.unit_room import MOST_UNITS
from initfast.report.report import Report
from initfast.stats.layer import Layer
from initfast.stats.unit_moments import (
    UnitMoments,
    from_sums_about,
    sums_about,
    units_of_layers,
)

NAMES = ("correlation", "batch_std", "unit_spread", "outlier_ratio")


def units_of(x, unit_dim=-1):
    return UnitMoments(initfast.ops.unit_moments(x, unit_dim)[1].numpy())


def exact(rows):
    """The four of rows [R, units] in float64, straight from their definitions."""
    x = rows.double()
    pairs = [x[i] @ x[j] for i, j in itertools.permutations(range(len(x)), 2)]
    largest = x.abs().amax(0)
    return {
        "correlation": float(torch.stack(pairs).mean() / x.square().sum(1).mean()),
        "batch_std": float(x.var(0, correction=0).mean().sqrt()),
        "unit_spread": float(x.mean(0).std() / x.std()),
        "outlier_ratio": float(largest.max() / largest.quantile(0.5)),
    }


def close(layer, rows, rel=1e-5):
    return all(
        getattr(layer, n) == pytest.approx(v, rel=rel, abs=1e-6) for n, v in exact(rows).items()
    )


def he_relu(depth, width=64):
    modules = []
    for _ in range(depth):
        linear = nn.Linear(width, width, bias=False)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules)


def rows_by_layer(net, x):
    """What each activation returns, in float64."""
    found = []
    hooks = [
        m.register_forward_hook(lambda m, a, y: found.append(y)) for m in net if type(m) is nn.ReLU
    ]
    with torch.no_grad():
        net.double()(x.double())
    for hook in hooks:
        hook.remove()
    net.float()
    return found


def test_correlation_is_not_the_mean_cosine():
    torch.manual_seed(0)
    net, x = he_relu(30, 100), torch.randn(24, 100)
    report, outputs = initfast.profile(net, x), rows_by_layer(net, x)
    for layer, rows in zip(report, outputs, strict=True):
        assert close(layer, rows)
    last = outputs[-1]
    cosines = nn.functional.normalize(last, dim=1) @ nn.functional.normalize(last, dim=1).T
    cosine = float((cosines.sum() - 24) / (24 * 23))
    assert 0.85 < report[-1].correlation < cosine - 0.003 < 0.997
    assert report[0].correlation < 0.45


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act, self.linear = nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Linear(6, 7)

    def forward(self, x):
        h = self.act(self.conv(x))
        return self.linear(h)


@pytest.mark.parametrize("grad", [False, True])
def test_rows_are_samples_and_positions_and_tokens(grad):
    torch.manual_seed(0)
    net, x = Tokens(), torch.randn(3, 3, 6, 8)
    loss = {"loss": lambda y: y.square().mean()} if grad else {}
    report = initfast.profile(net, x, **loss)
    with torch.no_grad():
        images = torch.tanh(net.conv(x))
        tokens = net.linear(images)
    assert close(
        report["act" if "act" in [r.name for r in report] else "conv"],
        images.movedim(1, -1).flatten(0, 2),
    )
    assert close(report["linear"], tokens.flatten(0, -2))


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("batch", [2, 64, 65, 700])
def test_every_way_of_running_layers_gives_the_same_numbers(batch, stop):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 33), nn.Tanh(), nn.Linear(33, 3)
    )
    x = torch.randn(batch, 12)
    with_graph = initfast.profile(net, x, loss=lambda y: y.square().mean(), stop_at_nonfinite=stop)
    for a, b in zip(initfast.profile(net, x), with_graph, strict=True):
        assert None not in [getattr(a, n) for n in NAMES]
        assert [getattr(a, n) for n in NAMES] == pytest.approx(
            [getattr(b, n) for n in NAMES], rel=1e-6
        )


def test_rows_that_are_all_the_same():
    units = units_of(torch.tensor([[0.1, -2.0, 3e37]]).expand(1000, 3).contiguous())
    assert (units.correlation, units.batch_std) == (1.0, 0.0)


@pytest.mark.parametrize("scale", [1e-37, 1.0, 1e37])
def test_any_scale_and_many_rows(scale):
    torch.manual_seed(0)
    x = torch.randn(100_000, 5) + torch.tensor([0.0, 1.0, 2.0, 3.0, -1.0])
    plain, scaled = units_of(x), units_of(x * scale)
    assert scaled.correlation == pytest.approx(plain.correlation, rel=1e-5)
    assert scaled.batch_std == pytest.approx(plain.batch_std * scale, rel=1e-5)
    assert scaled.unit_spread == pytest.approx(plain.unit_spread, rel=1e-5)
    wide = units_of(x.double() * 1e140)
    assert wide.correlation == pytest.approx(plain.correlation, rel=1e-5)


def test_units_with_nonfinite_values_count_with_their_pairs():
    x = torch.randn(6, 3)
    x[1, 0] = torch.nan
    x[:, 2] = torch.inf
    finite, y = x[[0, 2, 3, 4, 5], 0].double(), x[:, 1].double()
    inner = sum((v.sum() ** 2 - v.square().sum()) / (len(v) * (len(v) - 1)) for v in (finite, y))
    square = sum(v.square().mean() for v in (finite, y))
    assert units_of(x).correlation == pytest.approx(float(inner / square), rel=1e-6)


def test_what_there_is_no_number_for():
    one_row = units_of(torch.randn(1, 4))
    assert one_row.correlation is None and one_row.batch_std is None
    one_unit = units_of(torch.randn(5, 1))
    assert one_unit.unit_spread is None and one_unit.outlier_ratio == 1 and one_unit.batch_std > 0
    nothing = units_of(torch.zeros(5, 4))
    assert (nothing.correlation, nothing.batch_std, nothing.outlier_ratio) == (None, 0.0, None)
    nan = units_of(torch.full((3, 2), torch.nan))
    assert nan.statistics == (None,) * 4
    empty = units_of(torch.zeros(0, 2))
    assert (empty.correlation, empty.batch_std, empty.unit_spread, empty.outlier_ratio) == (
        None,
    ) * 4
    outlier = torch.zeros(4, 5)
    outlier[2, 3] = -8
    assert units_of(outlier).outlier_ratio == math.inf
    outlier[0] = 2
    assert units_of(outlier).outlier_ratio == 4


@pytest.mark.parametrize("x", [torch.randn(8), torch.randn(2, (1 << 18) + 1)], ids=["1-d", "wide"])
def test_outputs_whose_units_are_not_kept(x):
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    layer = initfast.profile(Twice(), x)[0]
    assert [getattr(layer, name) for name in NAMES] == [None] * 4


@pytest.mark.parametrize("sizes", [[20], [1, 19], [0, 7, 13]])
def test_batches_merge_to_the_whole(sizes):
    torch.manual_seed(0)
    net, x = he_relu(3, 16), torch.randn(20, 16)
    whole, parts = (
        initfast.profile(net, x),
        [initfast.profile(net, part) for part in x.split(sizes)],
    )
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    for a, b in zip(merged, whole, strict=True):
        assert [getattr(a, n) for n in NAMES] == pytest.approx(
            [getattr(b, n) for n in NAMES], rel=1e-6
        )


def test_units_without_values_in_one_batch_merge_to_those_of_the_other():
    x = torch.randn(9, 3)
    x[:4, 0] = torch.nan
    x[4:, 1] = torch.inf
    a, b = units_of(x[:4]), units_of(x[4:])
    for merged in (a.merge(b), b.merge(a)):
        assert merged.columns == pytest.approx(units_of(x).columns, rel=1e-5)


def added_up(parts):
    """The moments of the rows of several processes, as they find them without gathering any."""
    of = [initfast.ops.unit_moments(part)[1].numpy() for part in parts]
    pivot = np.max([np.where(x[0] > 0, x[1], -np.inf) for x in of], axis=0)
    sums = sum(sums_about(pivot, x) for x in of)
    return from_sums_about(pivot, sums, np.max([x[3] for x in of], axis=0))


@pytest.mark.parametrize("sizes", [[40], [1, 39], [0, 13, 27], [10] * 4])
@pytest.mark.parametrize("scale, mean", [(1.0, 0.0), (1e-30, 3e-27), (1e37, -1e40)])
def test_sums_over_processes_are_those_of_all_rows(sizes, scale, mean):
    x = torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[:13, 0], x[:, 1], x[1:, 2] = torch.nan, torch.inf, torch.nan
    x = x * scale + mean
    whole = initfast.ops.unit_moments(x)[1].numpy()
    found = added_up(x.split(sizes))
    assert np.array_equal(found[[0, 3]], whole[[0, 3]])
    assert found[1] == pytest.approx(whole[1], rel=1e-14)
    assert found[2] == pytest.approx(whole[2], rel=1e-9 if mean else 1e-13)  # as the values' digits


def test_a_unit_that_is_the_same_on_all_processes_has_no_deviation_at_all():
    x = torch.randn(7).expand(60, 7)  # 60 times a number, over 60, is not that number
    found = added_up(x.split([7, 13, 40]))
    assert not found[2].any() and np.array_equal(found[1], x[0].double().numpy())


def test_a_kept_report_has_the_numbers_and_not_the_units():
    report = initfast.profile(he_relu(2, 16), torch.randn(9, 16))
    kept = Report.from_dict(json.loads(report.to_json()))
    for a, b in zip(kept, report, strict=True):
        assert [getattr(a, n) for n in NAMES] == [getattr(b, n) for n in NAMES]
        assert a == b and not isinstance(a.unit_moments, UnitMoments)
        assert b.unit_moments.columns.shape == (4, 16)
        assert "unit_moments" not in b.to_dict()
    assert kept.merge(report)[0].correlation is None  # its units' moments were not kept
    frame, tags = report.to_dataframe(), report.scalars()
    assert frame["correlation"].tolist() == [layer.correlation for layer in report]
    assert tags["initfast/activations/0/batch_std"] == report[0].batch_std


def test_an_infinite_outlier_ratio_comes_back_from_json():
    layer = initfast.profile(nn.Linear(2, 3), torch.ones(2, 2))[0]
    plain = layer.to_dict() | {"outlier_ratio": "Infinity"}
    assert Layer.from_dict(plain).outlier_ratio == math.inf


def test_an_older_file_has_none_of_them():
    old = initfast.profile(nn.Linear(2, 3), torch.ones(2, 2)).to_dict() | {"schema": 1}
    for layer in old["layers"]:
        for name in NAMES:
            del layer[name]
    assert [getattr(Report.from_dict(old)[0], name) for name in NAMES] == [None] * 4


def test_layers_are_told_together_as_they_are_alone():
    """Of several widths, in an order of their own, with units without a number among them."""
    torch.manual_seed(0)
    tensors = [torch.randn(9, width) * scale for width in (5, 300, 5, 1) for scale in (1.0, 1e-30)]
    tensors[2][:, 7] = torch.nan
    columns = {-i: units_of(x).columns for i, x in enumerate(tensors)}
    for i, together in units_of_layers(columns).items():
        assert together == units_of(tensors[-i]) and together.columns is columns[i]


def test_a_layer_of_which_nothing_is_known_is_itself_again():
    (layer,) = initfast.profile(nn.Linear(3, 4), torch.full((2, 3), math.nan))
    assert Layer.from_dict(layer.to_dict()) == layer


def test_too_many_units_are_left_out_of_chains_too():
    net = nn.Sequential(nn.Linear(1, MOST_UNITS + 1), nn.ReLU())
    with torch.no_grad():
        assert initfast.profile(net, torch.ones(2, 1))[0].correlation is None
