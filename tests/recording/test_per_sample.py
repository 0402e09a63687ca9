"""`measure="per_sample"`: what is the same for every input is seen where positions differ."""

import json
import math

import pytest
import torch
from torch import nn

import initfast
from initfast.stats.layer import Layer

IMAGES = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """Tokens with their positions, of which the output keeps some."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.position = nn.Parameter(torch.randn(5, 16))
        self.embed, self.up, self.head = (nn.Linear(n, m) for n, m in ((8, 16), (16, 16), (16, 4)))

    def forward(self, x):
        h = torch.tanh(self.up(self.embed(x) + self.position))
        return self.head(h) + self.position[:, :4]


def exact(y):
    """Of rows that are whole samples, in float64, from the definitions."""
    rows = y.detach().double().flatten(1)
    sums, squares, n = rows.sum(0).square().sum(), rows.square().sum(), len(rows)
    spread = rows.var(0, correction=0).mean().sqrt()
    return float((sums - squares) / ((n - 1) * squares)), float(spread)


def told(layer):
    return layer.per_sample.correlation, layer.per_sample.batch_std


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_samples_and_units_are_their_entries(layout, dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 2)).to(dtype)
    x = IMAGES.to(dtype).contiguous(memory_format=layout)
    for options in ({}, {"loss": lambda y: y.float().square().mean()}):
        report = initfast.profile(net, x, measure="per_sample", **options)
        assert told(report[0]) == pytest.approx(exact(net[:2](x)), rel=1e-5)
        assert told(report[-1]) == pytest.approx(exact(net(x)), rel=1e-5)
        assert report[0].per_sample.columns.shape == (4, 4 * 4 * 4)
        assert all(x.per_sample is None for x in initfast.profile(net, x, **options))


def test_the_same_for_every_input_is_seen_between_positions_that_differ():
    x = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
    net = Tokens()
    nn.init.zeros_(net.up.weight)
    lost = initfast.profile(net, x, measure="per_sample")
    assert lost[-1].batch_std > 0.1 and lost[-1].per_sample.batch_std == 0.0
    assert lost[-1].per_sample.correlation == pytest.approx(1, abs=1e-12)
    nn.init.normal_(net.up.weight, std=1e-7)
    for measure, is_seen in (((), False), ("per_sample", True)):
        rules = [f.rule for f in initfast.profile(net, x, measure=measure).findings]
        assert ("constant_output" in rules) == is_seen
    healthy = initfast.profile(Tokens(), x, measure="per_sample")
    assert "constant_output" not in [f.rule for f in healthy.findings]


def test_batches_merge_and_files_keep_what_was_told():
    net, parts = nn.Conv2d(3, 4, 3), IMAGES.split([1, 0, 4])
    with initfast.Profiler(net, measure=["per_sample"]) as p, torch.no_grad():
        for part in parts:
            net(part)
    (layer,) = p.report()
    assert told(layer) == pytest.approx(exact(net(IMAGES)), rel=1e-5)
    kept = Layer.from_dict(json.loads(json.dumps(layer.to_dict())))
    assert kept == layer and kept.per_sample == layer.per_sample.statistics
    old = {name: value for name, value in layer.to_dict().items() if name != "per_sample"}
    assert Layer.from_dict(old).per_sample is None
    tags = p.report().scalars()
    assert tags["initfast/per_sample/net/batch_std"] == layer.per_sample.batch_std
    other = initfast.profile(net, torch.randn(2, 3, 5, 5), measure="per_sample")
    assert p.report().merge(other)[0].per_sample is None  # other positions are other units


class Returns(nn.Module):
    def __init__(self, y):
        super().__init__()
        self.y = y

    def forward(self, x):
        return self.y.clone()


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "y, expected",
    [
        (torch.zeros(0, 2, 3), (None, None)),
        (torch.ones(1, 2, 3), (None, None)),
        (torch.ones(3, 0, 2), None),
        (torch.ones(3, 2, 2), (1.0, 0.0)),
        (torch.zeros(3, 2, 2), (None, 0.0)),
        (torch.full((3, 2, 2), NAN), (None, None)),
        (torch.tensor([[[1.0, INF]], [[1.0, 2.0]]]), (1.0, 0.0)),
        (torch.ones(3), None),
        (torch.tensor(1.0), None),
        (torch.full((2, 3, 2), 1e37), (1.0, 0.0)),
    ],
    ids=[
        "no rows",
        "one row",
        "no entries",
        "constants",
        "zeros",
        "NaN",
        "inf",
        "1-d",
        "0-d",
        "1e37",
    ],
)
def test_odd_outputs_have_numbers_or_none(y, expected):
    (layer,) = initfast.profile(Returns(y), torch.ones(1), measure="per_sample")
    assert (layer.per_sample and told(layer)) == expected


def test_more_entries_than_the_units_that_are_kept_unasked():
    y = torch.randn(2, 4, 1 << 17, generator=torch.Generator().manual_seed(0))
    (layer,) = initfast.profile(Returns(y), torch.ones(1), measure="per_sample")
    assert told(layer) == pytest.approx(exact(y), rel=1e-5, abs=1e-5)
