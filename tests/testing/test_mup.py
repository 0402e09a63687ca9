"""coordinate_check beside the coord_check of the `mup` package (microsoft/mup 1.0.0).

It runs where that is installed. INITFAST_REAL_NETS=1 says that it is: if missing, it then fails.
"""

import importlib
import os

import pytest
import torch
from torch import nn

import initfast

WIDTHS = (16, 32, 64)


def test_it_agrees_with_mups_own():
    if os.environ.get("INITFAST_REAL_NETS") == "1":
        mup = importlib.import_module("mup")
    else:
        mup = pytest.importorskip("mup")
    coord_check = importlib.import_module("mup.coord_check")

    def net_of(width):
        return nn.Sequential(
            nn.Linear(8, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            mup.MuReadout(width, 4),
        )

    def make(width):
        net = net_of(width)
        mup.set_base_shapes(net, net_of(8), delta=net_of(12))
        return net

    x, targets = torch.randn(32, 8), torch.randint(4, (32,))
    theirs = coord_check.get_coord_data(
        {width: lambda width=width: make(width) for width in WIDTHS},
        [(x, targets)],
        mup=True, optimizer="adam", lr=0.01, nsteps=3, nseeds=2, cuda=False, show_progress=False,
        output_fdict={"l1": coord_check.FDICT["l1"], "l2": coord_check.FDICT["l2"]},
    )  # fmt: skip
    ours = initfast.coordinate_check(
        make, WIDTHS, x, loss=nn.functional.cross_entropy, targets=targets,
        optimizer=lambda net: mup.MuAdam(net.parameters(), lr=0.01), steps=3, seeds=2,
    )  # fmt: skip
    assert len(ours.coordinates) == len(theirs) == 2 * 3 * 3 * 6
    for row, (_, known) in zip(ours.coordinates, theirs.iterrows(), strict=True):
        assert (row.width, row.name, row.step + 1) == (known.width, known.module, known.t)
        assert row.mean_magnitude == pytest.approx(known.l1, rel=1e-5)
        assert row.rms == pytest.approx(known.l2, rel=1e-5)
    assert ours.is_right, str(ours)
