"""`measure=`: what it takes, what it refuses, and that it leaves all else as it is."""

import pytest
import torch
from torch import nn

import initfast
from initfast.profiling.arguments import MEASURES, ProfileArguments
from initfast.profiling.profile import profile


@pytest.mark.parametrize(
    "given",
    [(), "attention", ["histograms"], MEASURES, set(MEASURES)],
    ids=["none", "one", "list", "all", "set"],
)
def test_what_it_takes_is_kept_as_a_frozen_set(given):
    kept = ProfileArguments(nn.Identity(), 0, measure=given).measure
    assert kept == frozenset([given] if isinstance(given, str) else given)
    assert isinstance(kept, frozenset)


@pytest.mark.parametrize(
    "given, kind",
    [
        ("entropy", ValueError),
        (("attention", "x"), ValueError),
        (3, TypeError),
        (None, TypeError),
        ((1,), TypeError),
    ],
    ids=str,
)
def test_an_unknown_name_is_an_error_that_lists_them(given, kind):
    for call in (
        lambda: profile(nn.Identity(), torch.ones(2), measure=given),
        lambda: initfast.Profiler(nn.Identity(), measure=given),
    ):
        with pytest.raises(kind, match="expected some of 'attention', 'histograms', 'per_sample'"):
            call()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3), nn.Softmax(-1))

    def forward(self, tokens):
        return self.head(self.block(self.embedding(tokens)))


@pytest.mark.parametrize(
    "options", [{}, {"loss": lambda y: y.square().sum()}], ids=["alone", "with a loss"]
)
@pytest.mark.parametrize("stops", [False, True])
def test_all_else_stays_as_it_is(options, stops):
    net, x = Net(), torch.randint(11, (2, 5))
    torch.manual_seed(1)
    usual = profile(net, x, stop_at_nonfinite=stops, **options)
    torch.manual_seed(1)
    more = profile(net, x, stop_at_nonfinite=stops, measure=MEASURES, **options)
    assert [(a.name, a.op, a.shape, a.also) for a in more] == [
        (a.name, a.op, a.shape, a.also) for a in usual
    ]
    for a, b in zip(more, usual, strict=True):
        assert a.rms == pytest.approx(b.rms, rel=1e-5)
        assert (a.grad is None) == (b.grad is None)
    assert [f.rule for f in more.findings] == [f.rule for f in usual.findings]


def test_a_profile_within_a_profiler_is_not_counted():
    net, x = nn.Linear(4, 4), torch.ones(2, 4)
    with initfast.Profiler(net) as p:
        profile(net, x, measure="histograms")
    assert p.calls == 0
