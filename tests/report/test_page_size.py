"""How large the page of a long report is."""

import json
import re

import torch
from cases.reports import layer
from torch import nn

from initfast.profiling.profile import profile
from initfast.report.page_chart import chart
from initfast.report.page_json import embedded_json
from initfast.report.page_tree import layer_tree
from initfast.report.report import Report
from initfast.stats.moments import Moments


def test_a_thousand_layers_take_400_kb_and_their_json_less_than_as_much_again():
    torch.manual_seed(0)
    numbers = torch.rand(1000, 4, dtype=torch.float64).tolist()
    layers = [
        layer(
            f"encoder.blocks.{i // 4}.feed_forward.{'abcd'[i % 4]}",
            "linear + gelu",
            post=Moments(4096, 0, 12, 40, a, 4095 * b, -c, d),
            grad=Moments(4096, 0, 12, 40, b, 4095 * a, -d, c),
        )
        for i, (a, b, c, d) in enumerate(numbers)
    ]
    html = Report(layers).to_html()
    without_json = re.sub('<script type="text/plain".*?</script>', "", html, flags=re.DOTALL)
    assert len(without_json.encode()) < 400_000 and len(html.encode()) < 1_000_000
    assert html.count("<tr id=") == 1000 and "× 250" in html


def test_five_hundred_measured_layers_and_their_json_take_half_a_mb():
    net = nn.Sequential(*[m for _ in range(500) for m in (nn.Linear(8, 8), nn.Tanh())])
    for linear in net[::2]:
        nn.init.orthogonal_(linear.weight, 1.1)
    torch.manual_seed(0)
    report = profile(net, torch.randn(16, 8), loss=lambda y: y.square().mean())
    assert report[0].grad.rms and report[499].weight_grad.rms
    html = report.to_html()
    assert len(html.encode()) < 500_000
    assert Report.from_dict(json.loads(embedded_json(html))).layers == report.layers


def test_ten_thousand_layers_are_drawn_with_a_few_thousand_points():
    layers = [layer(str(i), std=1.0 + (i % 7)) for i in range(10_000)]
    drawn = chart(Report(layers))
    curve = re.search('class="curve c0 r0" d="([^"]*)"', drawn)[1]
    assert 500 < curve.count("L") < 2_000 and len(drawn) < 100_000
    assert "× 10000" in layer_tree(layers)
