"""A report as a flat dict for loggers."""

import torch
from cases.reports import layer, mlp
from torch import nn

import initfast
from initfast.report.scalars import scalars_of


def test_tags_and_values():
    x = torch.randn(8, 16)
    report = initfast.profile(mlp(2), x, loss=lambda y: y.square().sum())
    tags = report.scalars()
    assert tags == scalars_of(report.layers)
    assert tags["initfast/activations/0/std"] == report["0"].std
    assert tags["initfast/gradients/0/rms"] == report["0"].grad.rms
    assert tags["initfast/weights/2/std"] == report["2"].weight.std
    assert tags["initfast/weight_gradients/2/rms"] == report["2"].weight_grad.rms
    assert tags["initfast/activations/0/dead_units"] == report["0"].dead_units
    assert all(type(value) is float for value in tags.values())
    assert report.scalars("run")["run/activations/0/std"] == report["0"].std


def test_no_two_rows_share_a_tag():
    rows = [layer(""), layer(""), layer("a", "add", is_output=False), layer("a")]
    tags = scalars_of(rows)
    names = {tag.split("/")[2] for tag in tags}
    assert names == {"net", "net:2", "a:add", "a"}


def test_several_weights_have_their_parameters_names():
    tags = scalars_of(initfast.profile(nn.LSTM(4, 4), torch.randn(3, 2, 4)).layers)
    assert any(tag.endswith(".weight_hh_l0/std") for tag in tags)
