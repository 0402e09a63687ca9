"""Reports merged: over batches, and over ranks in real processes."""

import pickle

import pytest
import torch
from ranks import launch
from ranks.merge import BATCH, CHECKS, assert_equal, close, net, whole_batch
from torch import nn

import initfast
from initfast.collectives import gather
from initfast.report.report import Report
from initfast.stats.moments import Moments


@pytest.mark.parametrize("sizes", [[BATCH], [1, BATCH - 1], [5, 0, 4, 3]])
def test_batches_merge_to_the_whole(sizes):
    parts = [initfast.profile(net(), x) for x in whole_batch().split(sizes)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert_equal(merged, initfast.profile(net(), whole_batch()))


def test_a_unit_is_dead_where_no_batch_wakes_it():
    x = torch.eye(4)
    layer = nn.Linear(4, 4, bias=False)
    nn.init.eye_(layer.weight)
    relu = nn.Sequential(layer, nn.ReLU())
    first, second = initfast.profile(relu, x[:2]), initfast.profile(relu, x[2:3])
    assert (first[0].dead_units, second[0].dead_units) == (2, None)  # one sample tells nothing
    assert first.merge(second)[0].dead_units == second.merge(first)[0].dead_units == 1
    kept = Report.from_dict(first.to_dict())
    assert kept.merge(second)[0].dead_units is None  # its masks were not kept


def test_new_layers_come_where_they_ran():
    a = [layer_of("a"), layer_of("b"), layer_of("b"), layer_of("d")]
    b = [layer_of("z"), layer_of("a"), layer_of("b"), layer_of("c"), layer_of("d"), layer_of("e")]
    merged = Report(a).merge(Report(b))
    assert [layer.name for layer in merged] == ["z", "a", "b", "c", "b", "d", "e"]
    assert [layer.post.count for layer in merged] == [4, 8, 8, 4, 4, 8, 4]


def test_names_in_two_nets_are_those_of_neither():
    assert Report([], root="net.module").merge(Report([], root="net.module")).root == "net.module"
    assert Report([], root="net.module").merge(Report([])).root == ""


def layer_of(name, shape=(2, 2)):
    post = Moments(4, mean=0.0, m2=3.0, min=-1.0, max=1.0)
    return initfast.Layer(name, "linear", shape, shape, torch.float32, post)


def test_shapes_add_along_the_batch():
    def shape_of(a, b):
        return Report([layer_of("", a)]).merge(Report([layer_of("", b)]))[0].shape

    assert shape_of((2, 5), (3, 5)) == (5, 5)
    assert shape_of((2, 5), (3, 6)) == (2, 5)
    assert shape_of((), ()) == ()


def test_moments_pickle_and_scale():
    x = torch.randn(100, dtype=torch.float64)
    moments = Moments.of(x)
    assert pickle.loads(pickle.dumps(moments)) == moments
    assert close(moments.scaled(0.125), Moments.of(x / 8))
    nothing = Moments().scaled(2.0)
    assert (nothing.count, nothing.min, nothing.max) == (0, float("inf"), -float("inf"))


def test_without_a_group_nothing_is_exchanged():
    moments = Moments(2, mean=1.0, m2=2.0, min=0.0, max=2.0)
    assert moments.all_reduce() == moments
    assert gather(3) == [3]
    report = Report([layer_of("a")])
    assert report.all_reduce().layers == report.layers


@pytest.mark.parametrize("number", [2, 4])
def test_ranks_end_with_the_report_of_the_whole_batch(number, tmp_path):
    launch.run(CHECKS, number, tmp_path)
