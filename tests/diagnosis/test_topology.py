"""Which layers follow which."""

import itertools

import pytest
import torch
from nets.labelled import BATCH, WIDTH, he
from nets.labelled_residuals import Residual

from initfast import profile
from initfast.diagnosis import topology


def test_chains_follow_tensors_and_not_the_order():
    net = Residual(3)
    report = profile(net, torch.randn(BATCH, WIDTH))
    for chain in topology.chains(topology.parents(report.layers)):
        for before, after in itertools.pairwise(chain):
            assert report[after].input.std == pytest.approx(report[before].post.std, rel=1e-5)
    plain = profile(he(6)(), torch.randn(BATCH, WIDTH))
    assert topology.chains(topology.parents(plain.layers))[0] == list(range(7))
