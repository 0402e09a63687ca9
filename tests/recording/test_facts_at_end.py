"""What of the modules but their weights decides the scale, kept as the forward ended."""

import pytest
import torch
from torch import nn

import initfast
from initfast.recording.facts_at_end import FactsAtEnd
from initfast.recording.rows import Rows
from initfast.stats.moments import Moments


def test_biases_are_those_of_the_forward_though_they_change_before_somebody_looks():
    net = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(0.5), nn.Linear(8, 4))
    before = [net[0].bias.detach().clone(), net[3].bias.detach().clone()]
    report = initfast.profile(net, torch.randn(16, 8))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(7)
    net.eval()
    first, norm, dropout, last = report.layers
    assert first.vectors == {"bias": Moments.of(before[0])}
    assert last.vectors == {"bias": Moments.of(before[1])}
    assert list(norm.vectors) == ["weight", "bias"] and norm.vectors["weight"].mean == 1
    assert dropout.settings == {"p": 0.5, "training": True}


def test_tensors_of_a_kind_are_copied_at_once_and_others_left_out():
    rows = Rows()
    freed = nn.Parameter(torch.ones(4))
    freed.untyped_storage().resize_(0)
    tensors = [
        nn.Parameter(torch.full((3,), 1.0)), nn.Parameter(torch.full((2,), 2.0).bfloat16()),
        freed, nn.Parameter(torch.ones(2, device="meta")), nn.Parameter(torch.ones(2, 2)),
        nn.Parameter(torch.ones(3).to_sparse()), torch.full((5,), 3.0),
        torch.ones(2, dtype=torch.complex64),
    ]  # fmt: skip
    owners = [("m", str(i)) for i in range(len(tensors))]
    facts = FactsAtEnd.of({}, owners, tensors, rows)
    assert [list(places) for _, places, _ in facts.groups] == [[0, 6], [1]]
    found = facts.vectors(rows.read().values)["m"]
    assert {name: (m.count, m.mean) for name, m in found.items()} == {
        "0": (3, 1.0), "1": (2, 2.0), "6": (5, 3.0),
    }  # fmt: skip


@pytest.mark.parametrize("layers", [3, 40])
def test_a_deep_net_has_one_copy_of_its_biases(layers, monkeypatch):
    kept, add = [], Rows.add_values
    monkeypatch.setattr(Rows, "add_values", lambda self, x: kept.append(x.numel()) or add(self, x))
    net = nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(8, 8), nn.ReLU())])
    initfast.profile(net, torch.randn(4, 8))
    assert kept == [8 * layers]
