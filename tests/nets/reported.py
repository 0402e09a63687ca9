"""Small nets after public reports of training that fails: where the fault is, and what is said.

Each names the rule that must lead the findings, its layer, and words of it; nothing else may lead.
What has code must be cured by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from nets.reported_modules import (
    Attention,
    Coupling,
    Experts,
    Graph,
    Last,
    Normed,
    Radial,
    Siren,
    Timed,
    bits,
    chrono,
    classes,
    classifier,
    ctc,
    data,
    irnn,
    shut,
    weight_norm_of_length_zero,
    weight_norm_of_zero,
)
from torch import nn


@dataclass(frozen=True)
class Reported:
    """One net.

    Attributes:
        name: of the report's kind.
        net: builds it.
        x: builds its input.
        rule: that must lead the findings; "" where nothing may be said.
        layer: the name of the layer that it must begin at.
        says: what its text must hold.
        loss: of the net's output; None without one.
        cured: whether its code must cure.
    """

    name: str
    net: Callable[[], nn.Module]
    x: Callable[[], Any]
    rule: str = ""
    layer: str = ""
    says: tuple[str, ...] = ()
    loss: Callable[[Any], torch.Tensor] | None = None
    cured: bool = True


REPORTED = [
    Reported(
        "forget gates shut",
        lambda: Last(nn.LSTM, shut),
        data(4, 50, 8),
        "recurrent",
        "rnn",
        ("forget gates", "mean of -"),
    ),
    Reported(
        "an LSTM over 400 steps",
        lambda: Last(nn.LSTM),
        data(4, 400, 8),
        "recurrent",
        "rnn",
        ("over 400 steps",),
    ),
    Reported("the same by chrono", lambda: Last(nn.LSTM, chrono), data(4, 400, 8)),
    Reported("IRNN", lambda: Last(nn.RNN, irnn, nonlinearity="relu"), data(4, 60, 8)),
    Reported(
        "a GRU of inputs that nobody normalised",
        lambda: Last(nn.GRU),
        data(4, 50, 8, scale=500.0),
        "recurrent",
        "rnn",
        ("root mean square of 5", "of the gates are where they are flat"),
    ),
    Reported(
        "logits that nobody divided by sqrt(d)",
        lambda: Attention(1.0),
        data(8, 24, 256),
        "attention_logits",
        "",
        ("24 weights of a softmax", "sqrt(head dimension)"),
        cured=False,
    ),
    Reported("the same, divided", lambda: Attention(16.0), data(8, 24, 256)),
    Reported("a router", lambda: Experts(100.0), data(64, 32), "weight_scale", "router"),
    Reported("a router, sound", lambda: Experts(1.0), data(64, 32)),
    Reported(
        "a flow whose scales overflow",
        lambda: nn.Sequential(*[Coupling(20.0) for _ in range(8)]),
        data(16, 8),
        "weight_scale",
        "0.net.2",
        ("the worst of",),
    ),
    Reported(
        "bytes given to a classifier",
        classifier,
        lambda: 255 * torch.rand(64, 20),
        "input_scale",
        "0",
        ("root mean square of 14", "normalise the input"),
        classes,
    ),
    Reported("a length of zero", Normed, data(64, 8), "dead_units", "a.0"),
    Reported(
        "CTC, targets too long",
        lambda: nn.Linear(8, 6),
        data(4, 4, 8),
        "non_finite",
        "",
        ("4 labels and needs 5 steps, its input has 4", "zero_infinity"),
        ctc,
    ),
    Reported(
        "a weight norm of zeros",
        weight_norm_of_zero,
        data(8, 8),
        "non_finite",
        "0",
        ("8 of 8 rows of the weight's direction have a norm of 0",),
    ),
    Reported(
        "a softmax before cross_entropy",
        lambda: classifier(nn.Softmax(-1)),
        data(64, 20),
        "loss_arguments",
        "3",
        ("ends in softmax", "cross_entropy, takes softmax again"),
        classes,
    ),
    Reported(
        "log_softmax before cross_entropy",
        lambda: classifier(nn.LogSoftmax(-1)),
        data(64, 20),
        loss=classes,
    ),
    Reported(
        "a sigmoid before binary_cross_entropy_with_logits",
        lambda: classifier(nn.Sigmoid()),
        data(64, 20),
        "loss_arguments",
        "2",
        ("takes sigmoid again",),
        lambda y: F.binary_cross_entropy_with_logits(y, bits(y)),
    ),
    Reported(
        "a sigmoid before binary_cross_entropy",
        lambda: classifier(nn.Sigmoid()),
        data(64, 20),
        loss=lambda y: F.binary_cross_entropy(y, bits(y)),
    ),
    Reported(
        "a sigmoid before mse_loss",
        lambda: classifier(nn.Sigmoid()),
        data(64, 20),
        loss=lambda y: F.mse_loss(y, bits(y)),
    ),
    Reported(
        "nll_loss of logits",
        classifier,
        data(64, 20),
        "loss_arguments",
        "2",
        ("as nll_loss takes of log-probabilities", "they are none"),
        lambda y: F.nll_loss(y, torch.arange(64) % 10),
    ),
    Reported(
        "nll_loss of log_softmax",
        lambda: classifier(nn.LogSoftmax(-1)),
        data(64, 20),
        loss=lambda y: F.nll_loss(y, torch.arange(64) % 10),
    ),
    Reported(
        "returns of 5e4",
        classifier,
        data(64, 20),
        "loss_arguments",
        "2",
        ("the targets' mean is 5.00", "standardise the targets"),
        lambda y: F.mse_loss(y, 5e4 + torch.zeros_like(y)),
        cured=False,
    ),
    Reported(
        "the same as a sum",
        classifier,
        data(64, 20),
        "loss_arguments",
        "2",
        loss=lambda y: (y - 5e4).square().sum(),
        cured=False,
    ),
    Reported("returns of 5", classifier, data(64, 20), loss=lambda y: F.mse_loss(y, 5 + y * 0)),
    Reported(
        "a margin that is kept",
        classifier,
        data(64, 20),
        "no_gradient",
        "0",
        ("the loss, 0,", "hinge"),
        lambda y: (y - 100).relu().mean(),
        cured=False,
    ),
    Reported(
        "a sum over neighbours",
        lambda: Graph(lambda a: a),
        data(100, 32),
        "explosion",
        "layers.0",
        ("plain code between", "sum over neighbours", "divide by it there"),
    ),
    Reported("a mean over neighbours", lambda: Graph(lambda a: a / a.sum(1)), data(100, 32)),
    Reported(
        "SIREN by torch's default",
        Siren,
        lambda: 2 * torch.rand(256, 2) - 1,
        "gradient_explosion",
        "layers.1",
        ("not the weights",),
        lambda y: y.square().mean(),
    ),
    Reported(
        "a PReLU that starts at 5",
        lambda: nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(64, 64), nn.PReLU(1, 5))]),
        data(32, 64),
        "explosion",
        "0",
        ("prelu between",),
    ),
    Reported(
        "radial functions far from the data",
        lambda: Radial(30.0),
        data(64, 8),
        "constant_input",
        "head",
        ("all 1024 values of its input are 0", "before the first layer"),
        cured=False,
    ),
    Reported("radial functions", lambda: Radial(1.0), lambda: torch.randn(64, 8) / 2),
    Reported(
        "a timestep of up to 1000",
        Timed,
        lambda: (torch.randn(64, 2), torch.arange(64) * 15),
        "input_scale",
        "time",
        ("what plain code gives this layer has a root mean square of 5",),
    ),
    Reported(
        "a weight norm of length zero",
        weight_norm_of_length_zero,
        data(64, 8),
        "symmetric_units",
        "0",
        ("all weights are zero", "nothing of the input passes"),
        cured=False,
    ),
]
