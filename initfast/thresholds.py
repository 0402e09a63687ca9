"""Where the checks of a report draw their lines, and who drew them first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Threshold(NamedTuple):
    """One line: its value, what it bounds, whose it is."""

    value: float
    what: str
    source: str


_OWN = "initfast's labelled nets (tests/nets/labelled.py)"

_HEALTHY = "initfast's healthy nets (tests/nets/healthy.py, healthy_libraries.py)"

THRESHOLDS: dict[str, Threshold] = {
    "nonfinite": Threshold(
        0.0, "the share of NaN and infinity", "AUTOTRAINER (2021); SageMaker Debugger"
    ),
    "initial_loss": Threshold(
        2.0,
        "a cross-entropy before training over 1 + ln(classes); from its square on an error",
        "Karpathy, A Recipe for Training Neural Networks: verify the loss at init",
    ),
    "loss_size": Threshold(
        1e10,
        "the magnitude of a loss before training: sums over large batches of images reach 1e8",
        _OWN,
    ),
    "loss_gradient": Threshold(
        1e-3,
        "how near the gradient at the output is, relative, to that of a loss by which this loss is "
        "known: float32 gives one number in two ways",
        _OWN,
    ),
    "target_scale": Threshold(
        30.0,
        "how far the targets of a squared loss lie from the outputs, over the outputs' rms or 1; "
        "from its square on an error",
        _OWN,
    ),
    "variance_ratio": Threshold(
        10.0,
        "the ratio of the output's variances across layers",
        "SageMaker Debugger, PoorWeightInitialization",
    ),
    "short_net": Threshold(
        8,
        "fewer layers than these may lose scale: torch's default costs ReLU a factor 6 of variance "
        "a layer, and nets of a few layers train with it",
        _OWN,
    ),
    "short_variance_ratio": Threshold(
        1e4,
        "the ratio of variances that is too much even for fewer layers, or at under the least rate",
        _OWN,
    ),
    "least_rate": Threshold(
        1.1,
        "the factor a layer from which the std counts as growing: a sum of independent residual "
        "branches grows as the root of the depth, by less than this from the fifth on",
        _OWN,
    ),
    "severe_variance_ratio": Threshold(
        1e6, "the ratio of variances from which explosion and vanishing are errors", _OWN
    ),
    "overall_growth": Threshold(
        300.0,
        "the root mean square of any output over that of the net's input, or over 1 if that is "
        "less; from its square on an error. Healthy nets of three libraries reach 36",
        _HEALTHY,
    ),
    "overall_decay": Threshold(
        1e-4,
        "the std of what the net returns over that of its input, or over 1 if that is more; under "
        "its square an error. Healthy nets stay above 0.009",
        _HEALTHY,
    ),
    "input_rms": Threshold(
        30.0, "the root mean square of the net's input: bytes from 0 to 255 have 147", _HEALTHY
    ),
    "drowned_embedding": Threshold(
        50.0,
        "the root mean square of what is added to an embedding at every sample alike, over its own",
        _HEALTHY,
    ),
    "constant_input": Threshold(0.0, "the std of a layer's input", "exactly zero"),
    "gradient_explosion": Threshold(
        70.0,
        "the norm of the first layer's gradient over that of the last; from its square on an error",
        "AUTOTRAINER (2021)",
    ),
    "no_gradient": Threshold(0.0, "the norm of a layer's gradient", "exactly zero"),
    "gradient_vanishing": Threshold(1e-3, "the same ratio, from below", "AUTOTRAINER (2021)"),
    "saturation_early": Threshold(
        0.25,
        "the share of values where the activation is flat (tanh beyond 0.97): worth repairing",
        "Karpathy, makemore lecture 4: 20 % in a good net, 48 % in a bad one",
    ),
    "saturation_severe": Threshold(0.5, "the same share: hardly learns", "Glorot & Bengio 2010"),
    "clamp_early": Threshold(
        0.5,
        "the share of values at the clamp of hardtanh, hardsigmoid, relu6 (32 % of a standard "
        "normal lies at hardtanh's)",
        _OWN,
    ),
    "clamp_severe": Threshold(0.75, "the same share: hardly learns", _OWN),
    "attention_entropy": Threshold(
        0.2,
        "the entropy of attention's weights over that of equal ones: that of normal logits of std "
        "1 is 0.8 of it at 16 keys and more at more",
        _OWN,
    ),
    "attention_entropy_severe": Threshold(0.05, "the same: one key has all the weight", _OWN),
    "softmax_share": Threshold(
        0.8,
        "the sum of the squares of a softmax's weights, 1 where one has all the weight; from its "
        "fourth root on an error",
        _OWN,
    ),
    "dead_units": Threshold(
        0.5, "the share of a layer's units that are dead", "SageMaker Debugger, DeadRelu"
    ),
    "dead_units_severe": Threshold(0.9, "the same share from which it is an error", _OWN),
    "unit_activity": Threshold(
        0.1,
        "a unit that was never active is called dead where so many samples were seen that it is, "
        "with 95 % confidence, active on less than this share of inputs",
        "the binomial's bound 1 - 0.05^(1/n)",
    ),
    "collapse": Threshold(
        1e-3, "the std over the mean: less is lost in bfloat16's 8 bits", "bfloat16's resolution"
    ),
    "constant_norm": Threshold(
        1e-5, "the std of what a norm puts out: it should be that of its weight", _HEALTHY
    ),
    "eps": Threshold(
        1e-3, "the std of a norm's input: its square is under torch's eps of 1e-5", "torch.nn"
    ),
    "constant_output": Threshold(
        1e-3,
        "the std over the samples, averaged over the units, over that of the first layer",
        _HEALTHY,
    ),
    "correlation": Threshold(
        0.92,
        "the correlation of two samples at the end of a plain net: of He-initialised ReLU layers "
        "some 25 reach it",
        "Poole et al. 2016",
    ),
    "correlation_before": Threshold(
        0.9, "the same at its first layer: samples that are alike stay so", _HEALTHY
    ),
    "spectral_radius": Threshold(
        3.0,
        "that of a recurrent weight: torch's default has 0.58, an orthogonal one 1; from its "
        "square on an error",
        _HEALTHY,
    ),
    "spectral_radius_lost": Threshold(
        0.4,
        "the same from below, of a plain recurrent net over so many steps that the dtype cannot "
        "hold what is left of a gradient",
        _HEALTHY,
    ),
    "recurrent_gradient": Threshold(
        1.2e-38,
        'what is left of a gradient at a recurrent module\'s first step, where measure="recurrent" '
        "measures it",
        "the smallest normal number of float32 and bfloat16",
    ),
    "gate_kept": Threshold(
        0.1,
        "how much of its state a gate of an LSTM or GRU keeps at a step; torch's default: half",
        "Jozefowicz, Zaremba & Sutskever 2015",
    ),
    "mean_shift": Threshold(
        1.0, "the mean over the std, before the activation", "Brock, De & Smith 2021, mean shift"
    ),
    "mean_drift": Threshold(3.0, "the same: most units are all on or all off", _OWN),
    "few_units": Threshold(
        16,
        "the mean over fewer units is that of their own random weights, however far from zero",
        _OWN,
    ),
    "unit_std": Threshold(0.1, "how far the std may lie from 1", "LSUV-pytorch's tolerance"),
    "unit_factor": Threshold(
        2.0,
        "how many times too large or too small the std must be somewhere for this to be told: He's "
        "weights before ReLU make it √2",
        _OWN,
    ),
    "dtype_lost": Threshold(
        0.5,
        "the share of the values that are not zero and yet under the dtype's smallest normal",
        "unit-scaling's range lines; torch.finfo",
    ),
    "dtype_headroom": Threshold(
        16.0,
        "how far the largest value stays below the largest of the net's own dtype",
        "unit-scaling's range lines; torch.finfo",
    ),
    "initialiser": Threshold(
        0.1, "how far a weight's variance may lie from an initialiser's, relative", _OWN
    ),
    "weight_variance": Threshold(
        25.0,
        "fan_in × Var(w) of a weight that no usual initialiser made, over what holds the scale, "
        "where no norm follows",
        _OWN,
    ),
    "departure": Threshold(
        2.0,
        "the rms of a layer's pre-activation over what its weights make of its input by theory, or "
        "the reverse; five standard deviations of a draw of the weights too",
        _HEALTHY,
    ),
    "weight_lost": Threshold(
        1e-5, "the same from below, where other layers take the output", _HEALTHY
    ),
}
"""Every threshold, by its name."""


def limits(overrides: Mapping[str, float] | None = None) -> dict[str, float]:
    """The value of every threshold, some replaced.

    Raises:
        ValueError: no threshold has that name, or a value is not a number from zero up.
    """
    chosen = {name: float(t.value) for name, t in THRESHOLDS.items()}
    for name, value in (overrides or {}).items():
        if name not in chosen:
            raise ValueError(f"no threshold is named {name!r}; expected one of {', '.join(chosen)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise ValueError(f"threshold {name!r} is {value!r}; expected a number from zero up")
        chosen[name] = float(value)
    return chosen
