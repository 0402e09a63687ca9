"""Findings on attention's logits: saturated softmaxes, and logits near the end of their dtype."""

import pytest
import torch
from cases.reports import layer
from torch import nn
from torch.nn import functional as F

import initfast
from initfast.diagnosis.diagnosing import diagnose
from initfast.report.report import Report
from initfast.stats.attention import Attention
from initfast.stats.moments import Moments


class Block(nn.Module):
    def __init__(self, width=64, heads=4):
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(width), heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        for p in (self.q, self.k):
            nn.init.normal_(p.weight, 0.0, width**-0.5)

    def forward(self, x):
        y = self.norm(x)
        q, k, v = (f(y).unflatten(-1, (self.heads, -1)) for f in (self.q, self.k, self.v))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def found(net, x):
    report = initfast.profile(net, x, measure="attention")
    return [f for f in report.findings if f.rule == "attention_logits"], report


def test_logits_of_std_one_are_sound():
    findings, report = found(nn.Sequential(Block(), Block()), torch.randn(2, 32, 64))
    rows = [x.attention for x in report if x.attention]
    assert not findings and len(rows) == 2
    assert all(0.7 < a.logit_std < 1.4 and a.entropy > 0.8 for a in rows)


@pytest.mark.parametrize("factor, severity", [(3.0, "warning"), (20.0, "error")])
def test_saturated_softmaxes_are_found_with_what_cures_them(factor, severity):
    net, x = nn.Sequential(Block(), Block()), torch.randn(2, 32, 64)
    for p in (net[1].q, net[1].k):
        p.weight.data *= factor
    findings, report = found(net, x)
    (only,) = findings
    assert only.severity == severity and "scaled_dot" in report[only.first].op
    assert only.names == ("1", "1") and only.value < only.threshold
    part = float(only.advice.partition("fan_in: ")[2].split()[0])
    for p in (net[1].q, net[1].k):
        p.weight.data *= part
        p.bias.data *= part
    again, _ = found(net, x)
    assert part < 0.4 and not again


def of(dtype, **moments):
    logits = Moments(64, mean=0.0, m2=64.0, **moments)
    rows = [layer("0", "softmax", attention=Attention(logits, 8, 0.9))]
    rows[0] = type(rows[0])(**{**rows[0].__dict__, "dtype": dtype})
    return [f for f in diagnose(Report(rows)).findings if f.rule == "attention_logits"]


def test_logits_near_the_end_of_a_dtype():
    assert not of(torch.float16, min=-3e3, max=4e3)
    assert not of(torch.bfloat16, min=-9e4, max=9e4) and not of(torch.float32, min=0.0, max=9e4)
    (near,) = of(torch.float16, min=-5e3, max=9.0)
    assert near.severity == "warning" and "logits reach 5000: float16 ends at" in near.measured
    (beyond,) = of(torch.float16, min=0.0, max=7e4)
    (gone,) = of(torch.float16, min=0.0, max=7.0, nonfinite=3)
    assert beyond.severity == gone.severity == "error"
    assert "3 of the logits are not finite" in gone.measured


def test_logits_that_overflow_by_hand_are_named():
    class ByHand(nn.Module):
        def forward(self, q, k):
            return torch.softmax(q @ k.mT, -1)

    q = torch.full((4, 8), 200.0, dtype=torch.float16)
    report = initfast.profile(ByHand(), (q, q), measure="attention")
    rules = [f.rule for f in report.findings]
    assert {"non_finite", "attention_logits"} <= set(rules)


@pytest.mark.parametrize("masked, rule", [(-1e9, []), (None, ["attention_logits"])])
def test_a_mask_of_large_numbers_is_no_saturated_softmax(masked, rule):
    """Of the rows of an identity's mask one weight has all, as it was meant to."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.out = nn.Linear(16, 16), nn.Linear(16, 4)

        def forward(self, x):
            z, seen = self.linear(x), torch.eye(16, dtype=torch.bool)
            z = 30 * z if masked is None else z.masked_fill(~seen, masked)
            return self.out(z.softmax(-1))

    torch.manual_seed(0)
    found = initfast.profile(Masked(), torch.randn(16, 16)).findings
    assert [f.rule for f in found if f.rule == "attention_logits"] == rule
