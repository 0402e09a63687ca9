"""What a branch adds to a residual stream: which term it is, how large, in which direction."""

import math

import pytest
import torch
from cases.reports import layer
from torch import nn

import initfast
from initfast.report.report import Report
from initfast.stats.moments import Moments


def truth(stream, branch):
    """The ratio of the rms and the cosine, in float64."""
    a, b = stream.double().flatten(), branch.double().flatten()
    return (b.norm() / a.norm()).item(), (a @ b / (a.norm() * b.norm())).item()


class Sum(nn.Module):
    """A stream and a branch of given tensors, added as people write it."""

    def __init__(self, stream, branch, how="stream + branch"):
        super().__init__()
        self.first, self.second, self.how = nn.Identity(), nn.Identity(), how
        self.stream, self.branch = stream, branch

    def forward(self, x):
        x = self.first(self.stream + 0 * x)
        y = self.second(self.branch.clone())
        if self.how == "branch += stream":
            y += x
            return y
        return x + y if self.how == "stream + branch" else y + x


@pytest.mark.parametrize("how", ["stream + branch", "branch + stream", "branch += stream"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("unit", [1e-18, 1.0, 1e15])
def test_ratio_and_cosine_are_those_of_float64(how, scale, unit):
    a = unit * torch.randn(8, 100)
    b = scale * (0.3 * a + unit * torch.randn(8, 100))
    found = initfast.profile(Sum(a, b, how), torch.zeros(8, 100))[-1]
    ratio, cosine = truth(a, b)
    assert found.op == "add" and found.branch == (how == "stream + branch")
    assert found.branch_ratio == pytest.approx(ratio, rel=1e-6)
    assert found.branch_cosine == pytest.approx(cosine, abs=1e-7 * max(scale, 1 / scale) + 2e-7)


def test_a_branch_may_be_a_bias_for_all_samples():
    a, b = torch.randn(8, 100), torch.randn(100)
    found = initfast.profile(Sum(a, b), torch.zeros(8, 100))[-1]
    ratio, cosine = truth(a, b.expand_as(a))
    assert (found.branch_ratio, found.branch_cosine) == pytest.approx((ratio, cosine), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_the_dtype_rounds_away_is_all_that_is_lost(dtype):
    a, b = torch.randn(2, 64, 512).to(dtype)
    found = initfast.profile(Sum(a, b), torch.zeros(64, 512, dtype=dtype))[-1]
    ratio, cosine = truth(a, b)
    assert found.branch_ratio == pytest.approx(ratio, rel=1e-6)
    assert found.branch_cosine == pytest.approx(
        cosine, abs=4 * torch.finfo(dtype).eps / a.numel() ** 0.5
    )


class Bottleneck(nn.Module):
    """As torchvision has it: the shortcut may be a projection, which runs after the branch."""

    def __init__(self, projects):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(4, 4, 1) if projects else None

    def forward(self, x):
        y = self.conv2(torch.relu(self.conv1(x)))
        y += x if self.shortcut is None else self.shortcut(x)
        return torch.relu(y)


@pytest.mark.parametrize("projects", [False, True])
def test_a_projected_shortcut_is_the_stream(projects):
    net, x = Bottleneck(projects), torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        branch = net.conv2(torch.relu(net.conv1(x)))
        stream = net.shortcut(x) if projects else x
    found = next(x for x in initfast.profile(net, x) if x.op.startswith("add"))
    assert found.branch == 0
    assert found.branch_ratio == pytest.approx(truth(stream, branch)[0], rel=1e-5)


def test_of_what_is_no_residual_sum_there_is_none():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert all(
        (x.branch, x.branch_ratio, x.branch_cosine) == (None,) * 3
        for x in initfast.profile(net, torch.randn(2, 4))
    )

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            x = self.a(x)
            return torch.add(x + x, self.a(x), alpha=2.0)

    twice, scaled = [x for x in initfast.profile(Odd(), torch.randn(2, 4)) if "add" in x.op]
    assert twice.branch is scaled.branch is None and scaled.op == "add_scaled"


@pytest.mark.parametrize(
    "terms",
    [
        (Moments(4, mean=0.0, min=0.0, max=0.0), Moments(4, mean=1.0)),
        (Moments(4, mean=1.0), Moments(4, mean=0.0)),
        (Moments(4, 4), Moments(4, mean=1.0)),
    ],
)
def test_a_zero_or_nonfinite_term_has_no_direction(terms):
    a, b = terms
    found = layer("", "add", input=a, further_inputs=(b,), branch=1)
    assert found.branch_cosine is None
    assert found.branch_ratio in (None, 0.0)


def test_they_merge_as_one_batch_and_are_kept():
    net = Bottleneck(False)
    x = torch.randn(6, 4, 5, 5)
    whole = initfast.profile(net, x)
    both = initfast.profile(net, x[:2]).merge(initfast.profile(net, x[2:]))
    at = next(i for i, row in enumerate(whole) if row.op.startswith("add"))
    for name in ("branch_ratio", "branch_cosine"):
        expected = getattr(whole[at], name)
        assert math.isclose(getattr(both[at], name), expected, rel_tol=1e-5, abs_tol=1e-6)
        assert whole.scalars()[f"initfast/activations/net/{name}"] == expected
    again = Report.from_dict(both.to_dict())
    assert again[at].branch_cosine == both[at].branch_cosine
