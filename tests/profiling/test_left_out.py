"""include= and exclude= of profile()."""

import pytest
import torch
from torch import nn

import initfast


def net():
    body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4))
    return nn.Sequential(body, nn.Linear(4, 4), nn.Dropout())


@pytest.mark.parametrize(
    "options, names",
    [
        ({}, ["0.0", "0.2", "1", "2"]),
        ({"include": "0.*"}, ["0.0", "0.2"]),
        ({"include": ("Layer*", "2")}, ["0.2", "2"]),
        ({"include": "ReLU"}, ["0.0"]),
        ({"exclude": "ReLU"}, ["0.0", "0.2", "1", "2"]),
        ({"exclude": ["Linear", "Dropout"]}, ["0.2"]),
        ({"include": "*", "exclude": "0.*"}, ["1", "2"]),
        ({"include": ()}, []),
    ],
)
def test_layers_are_chosen_by_name_or_type(options, names):
    report = initfast.profile(net(), torch.randn(8, 4), **options)
    assert [layer.name for layer in report] == names
    left_out = [note for note in report.notes if "left out" in note]
    assert bool(left_out) == (len(names) < 4)
    assert not left_out or left_out[0].startswith(f"{4 - len(names)} of 4 layers")
    assert report.run is not None and len(report.inputs) == 1


def test_nonfinite_values_that_are_left_out_are_named():
    bad = net()
    bad[1].weight.data[0, 0] = torch.inf
    report = initfast.profile(bad, torch.randn(8, 4), include="0.*")
    assert "NaN or infinities are among them, the first at '1'." in report.notes[-1]


@pytest.mark.parametrize("name", ["include", "exclude"])
def test_what_is_no_pattern_is_refused(name):
    with pytest.raises(TypeError, match=f"{name} is \\[1\\]; expected a pattern"):
        initfast.profile(net(), torch.randn(8, 4), **{name: [1]})


def test_patterns_that_fit_nothing_are_told_what_there_is():
    report = initfast.profile(net(), torch.randn(8, 4), include="encoder.*")
    assert "4 of 4" in report.notes[-1] and "fits include='encoder.*'" in report.notes[-1]
    assert "('0.0', '0.2', '1', ...)" in report.notes[-1]
    assert "(Dropout, LayerNorm, Linear)" in report.notes[-1]
    report = initfast.profile(net(), torch.randn(8, 4), include="0.*", exclude="*")
    assert "No layer fits" not in report.notes[-1]
