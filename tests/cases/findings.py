"""What the tests of findings share: reports of nets, and of layers by their numbers."""

import torch
from nets.labelled import BATCH, WIDTH

from initfast import profile
from initfast.diagnosis.diagnosing import diagnose
from initfast.report.report import Report
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments


def report_of(build, seed=0, x=None):
    torch.manual_seed(seed)
    net = build()
    return net, profile(net, torch.randn(BATCH, WIDTH) if x is None else x)


def moments(n=10_000, mean=0.0, std=1.0, reach=4.0, **more):
    ends = {"min": mean - reach * std, "max": mean + reach * std}
    return Moments(n, **({"mean": mean, "m2": std * std * (n - 1)} | ends | more))


def layer(op="linear", name="0", post=None, shape=(100, 100), dtype=torch.float32, **more):
    return Layer(name, op, shape, shape, dtype, post or moments(), **more)


def said(*layers, rule, thresholds=None):
    found = diagnose(Report(list(layers)), thresholds).findings
    return [f for f in found if f.rule == rule]


class Measured:
    """A layer with the numbers over samples that a report may have."""

    def __init__(self, numbers, **more):
        self._numbers, self._layer = numbers, layer(**more)

    def __getattr__(self, name):
        return self._numbers[name] if name in self._numbers else getattr(self._layer, name)
