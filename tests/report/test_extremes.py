"""Numbers at the ends of every dtype: what is derived from their moments is a number, or said."""

import itertools
import math
import random
from functools import cached_property

import pytest
import torch
from cases.switches import times
from torch import nn

import initfast
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.residual_sum import branch_cosine

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def ends(dtype):
    """Magnitudes whose powers leave the dtype, or float64."""
    f = torch.finfo(dtype)
    tiny = f.tiny * f.eps  # the least subnormal number
    return [tiny, f.tiny, f.tiny**0.5, 1.0, f.max**0.5, f.max / 16, f.max, 0.0, math.inf, math.nan]


def derived(of):
    """The values of all properties of an object."""
    names = [
        name
        for kind in type(of).__mro__
        for name, value in vars(kind).items()
        if isinstance(value, (property, cached_property))
    ]
    return {name: getattr(of, name) for name in names}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [1.0, -1.0], [1.0, 0.5, -0.25], [0.0, 1.0]])
def test_every_property_of_moments(values, dtype):
    for a, b in itertools.product(ends(dtype), repeat=2):
        x = torch.tensor(values, dtype=torch.float64)
        m, other = Moments.of((x * a).to(dtype)), Moments.of((x * b).to(dtype))
        assert derived(m.scaled(1e-300)) and derived(m.scaled(1e300))
        for moments in (m, m.merge(other)):
            crest = derived(moments)["crest"]
            assert math.isnan(crest) or 1 - 1e-6 <= crest <= math.sqrt(moments.finite) * (1 + 1e-6)
        cosine = branch_cosine([m, other], 1, m.merge(other))
        assert cosine is None or math.isnan(cosine) or -1 <= cosine <= 1


class Net(nn.Module):
    """A layer of each kind that theory has a rule for."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)
        self.conv, self.batch_norm = nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = x + torch.tanh(self.first(x))
        x = torch.softmax(x, -1) * x + self.norm(x)
        y = nn.functional.gelu(self.batch_norm(self.conv(x[:, None])))
        return self.last(y.flatten(1))


def everything(report, net, x, folder):
    """Whatever a user may ask of a report."""
    str(report), report.tree(), report.scalars(), report.findings, report.verdict, report.origin
    report.to_json(folder / "a.json"), report.to_html(folder / "a.html"), str(report.predicted)
    loaded = initfast.Report.load(folder / "a.json")
    str(initfast.compare(report, loaded)), str(loaded.merge(report))
    for layer in report:
        assert isinstance(layer, Layer) and derived(layer)
        assert str(report.explain(layer.name))


@pytest.mark.parametrize("seed", range(times(12)))
@pytest.mark.filterwarnings("ignore")
def test_everything_that_is_said_of_a_net(seed, tmp_path):
    rng = random.Random(seed)
    dtype = DTYPES[seed % 4]
    net = Net().to(dtype)
    scales = ends(dtype)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(rng.choice([1.0, 1.0, *scales]))
    x = (torch.randn(8, 6, dtype=torch.float64) * rng.choice([*scales, 1e-300, 1e300])).to(dtype)
    loss = rng.choice([None, lambda y: (y * y).sum()])
    report = initfast.profile(net, x, loss=loss)
    everything(report, net, x, tmp_path)


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e300])
def test_what_float64_does_not_hold_is_not_predicted(scale):
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh()).double()
    report = initfast.profile(net, scale * torch.randn(16, 4, dtype=torch.float64))
    (only,) = report.predicted
    assert only.cumulative is None and "float64" in only.remark
    assert math.isnan(report[0].input.crest)
    assert "float64 does not hold" in " ".join(report.explain("0").split())
