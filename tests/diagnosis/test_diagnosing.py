"""Findings: what they say, and that what they advise helps."""

import math

import pytest
import torch
from cases.findings import layer, moments, report_of, said
from nets.labelled import BATCH, WIDTH, he, mlp, normal, rules_of, torch_default
from nets.labelled_residuals import Residual
from torch import nn

import initfast
from initfast import profile
from initfast.diagnosis.diagnosing import diagnose
from initfast.report.report import Report
from initfast.stats.weight import Weight

# ---- advice ----

CURABLE = [
    ("relu 40, torch's default", mlp(nn.ReLU, torch_default, 40, bias=None), "vanishing"),
    ("gelu 40, torch's default", mlp(nn.GELU, torch_default, 40, bias=None), "vanishing"),
    ("silu 40, torch's default", mlp(nn.SiLU, torch_default, 40, bias=None), "vanishing"),
    ("silu 40, N(0, 1)", mlp(nn.SiLU, normal(9.0), 40), "explosion"),
    ("mish 40, torch's default", mlp(nn.Mish, torch_default, 40, bias=None), "vanishing"),
    ("relu 25, N(0, 1)", mlp(nn.ReLU, nn.init.normal_, 25), "explosion"),
    ("linear 25, N(0, 1e-4)", mlp(nn.Identity, normal(0.01), 25), "vanishing"),
    ("tanh 10, N(0, 1)", mlp(nn.Tanh, nn.init.normal_, 10), "saturation"),
    ("tanh 40, N(0, 1)", mlp(nn.Tanh, nn.init.normal_, 40), "gradient_explosion"),
    ("relu, constant", mlp(nn.ReLU, lambda w: nn.init.constant_(w, 0.1), 3), "symmetric_units"),
    ("relu 4, N(0, 1)", mlp(nn.ReLU, nn.init.normal_, 4), "weight_scale"),
]


@pytest.mark.parametrize("build, rule", [c[1:] for c in CURABLE], ids=[c[0] for c in CURABLE])
def test_the_code_of_a_finding_cures_it(build, rule):
    net, report = report_of(build)
    cures = [f.code for f in report.findings if f.rule == rule and f.severity != "info"]
    assert cures
    for code in cures:
        exec(code, {"net": net, "report": report, "initfast": initfast})
    after = profile(net, torch.randn(BATCH, WIDTH))
    assert rule not in rules_of(after)


def test_what_is_said_of_a_deep_relu_net_of_torchs_default():
    _, report = report_of(mlp(nn.ReLU, torch_default, 40, 256, bias=None, n_in=WIDTH))
    worst = report.findings[0]
    assert (worst.rule, worst.severity, worst.first, worst.last) == ("vanishing", "error", 0, 40)
    # fan_in Var(w) is 1/3 and half of ReLU's slopes are 0: √(1/6) a layer.
    assert math.log(worst.value) == pytest.approx(20 * math.log(1 / 6), rel=0.01)
    assert "kaiming_uniform_(a=√5)" in worst.cause and "relu holds its scale at 2" in worst.cause
    assert 'kaiming_normal_(nonlinearity="relu") on layers 0 to 40' in worst.advice
    assert worst.source.startswith("AUTOTRAINER")
    text = str(report)
    assert "error: vanishing in layers 0 to 40" in text and worst.code.splitlines()[0] in text


def test_xavier_before_relu_loses_half_the_variance():
    _, report = report_of(
        mlp(nn.ReLU, nn.init.xavier_normal_, 40, 256, n_in=256), x=torch.randn(BATCH, 256)
    )
    worst = report.findings[0]
    assert worst.rule == "vanishing" and math.log(worst.value) == pytest.approx(
        40 * math.log(2), rel=0.1
    )
    assert "LeCun" in worst.cause or "Xavier" in worst.cause


def test_residual_sums_are_told_from_weights():
    _, report = report_of(lambda: Residual(24))
    worst = report.findings[0]
    assert worst.rule == "explosion" and "residual branch" in worst.advice and not worst.code


# ---- single rules, from numbers ----


@pytest.mark.parametrize(
    "share, severity", [(0.2, None), (0.3, "warning"), (0.6, "error"), (1.0, "error")]
)
def test_saturation_is_early_or_severe(share, severity):
    post = moments(saturated=int(share * 10_000))
    found = said(layer("linear + tanh", post=post, pre=moments()), rule="saturation")
    assert [f.severity for f in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    "samples, dead, expected",
    [
        (8, 90, False),
        (28, 90, False),
        (29, 90, True),
        (29, 55, False),
        (1000, 66, True),
        (1000, 50, False),
    ],
)
def test_dead_units_need_enough_samples_and_units(samples, dead, expected):
    post = moments(samples * 100, zero=samples * dead)
    one = layer(
        "linear + relu", post=post, shape=(samples, 100), pre=moments(), dead_units=dead, units=100
    )
    assert bool(said(one, rule="dead_units")) is expected
    skipped = [s for s in diagnose(Report([one])).skipped if s.rule == "dead_units"]
    assert bool(skipped) is (samples < 29)
    if skipped:
        assert f"{samples} samples tell too little: pass a batch of 29" in skipped[0].reason


@pytest.mark.parametrize("act, dead", [(nn.Tanh, False), (nn.GELU, False), (nn.ReLU, True)])
def test_zeros_of_a_last_layer_that_starts_at_zero_are_no_dead_units(act, dead):
    last = nn.Linear(16, 16)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    report = profile(nn.Sequential(nn.Linear(16, 16), nn.Tanh(), last, act()), torch.randn(64, 16))
    assert ("dead_units" in rules_of(report)) is dead


def test_channels_of_convolutions_are_units():
    post = moments(4 * 40 * 49, zero=4 * 36 * 49)
    one = layer(
        "Conv2d + relu", post=post, shape=(4, 40, 7, 7), pre=moments(), dead_units=36, units=40
    )
    assert said(one, rule="dead_units")[0].value == 0.9


@pytest.mark.parametrize(
    "dtype, scale, expected",
    [
        (torch.float16, 1.0, False),
        (torch.float16, 2000.0, True),
        (torch.float16, 1e-5, True),
        (torch.bfloat16, 2000.0, False),
        (torch.bfloat16, 1e-5, False),
        (torch.float32, 1e38, True),
    ],
)
def test_the_nets_own_dtype_is_a_risk_and_others_are_information(dtype, scale, expected):
    found = said(layer(post=moments(std=scale), dtype=dtype), rule="dtype_range")
    assert any(f.severity == "warning" for f in found) is expected
    if dtype is torch.bfloat16 and scale != 1.0:
        assert any(f.severity == "info" and "float" in f.measured for f in found)


def test_gradients_that_underflow_ask_for_a_scaled_loss():
    grad = moments(std=1e-6)
    found = said(layer(dtype=torch.float16, grad=grad), rule="dtype_range")
    assert "GradScaler" in found[0].advice


@pytest.mark.parametrize(
    "rate, rule",
    [(1.3, "gradient_vanishing"), (0.75, "gradient_explosion"), (1.02, None), (0.98, None)],
)
def test_measured_gradients(rate, rule):
    layers = [layer(name=f"b.{i}", grad=moments(std=1e-3 * rate**i)) for i in range(40)]
    report = Report(layers)
    assert rules_of(report) == ({rule} if rule else set())
    if rule:
        finding = report.findings[0]
        assert finding.value == pytest.approx(rate**-39, rel=1e-3)
        assert (finding.first, finding.last) == (0, 39)


def test_a_gradient_that_is_not_finite():
    net = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 4))
    report = profile(net, torch.randn(BATCH, WIDTH), loss=lambda y: (y * 0).sqrt().sum())
    worst = report.findings[0]
    assert (worst.rule, worst.severity, worst.first) == ("non_finite", "error", 1)
    assert worst.value == 1 and "1 layer before it has" in worst.measured


def test_what_was_not_checked_is_listed():
    _, report = report_of(he())
    reasons = {s.rule: s.reason for s in report.skipped_checks}
    assert reasons.keys() == {"gradient_explosion", "gradient_vanishing"}
    assert "pass loss= to profile" in reasons["gradient_explosion"]
    net = Residual(12, nn.BatchNorm1d).eval()
    reasons = {s.rule: s.reason for s in profile(net, torch.randn(BATCH, WIDTH)).skipped_checks}
    assert "net.train()" in reasons["explosion"] and "net.train()" in reasons["vanishing"]


def test_weights_of_no_usual_initialiser():
    odd = Weight(256, 256, moments(65536, std=(0.7 / 256) ** 0.5))
    found = said(layer("linear + relu", weight=odd), rule="weight_scale")
    assert [f.severity for f in found] == ["info"]
    large = Weight(256, 256, moments(65536, std=1.0))
    found = said(layer("linear + relu", weight=large), rule="weight_scale")
    assert found[0].severity == "warning" and found[0].value == pytest.approx(128, rel=1e-3)
    fitting = layer("linear", weight=large, input=moments(4096, std=1 / 16))  # T5's tied head
    assert [f.severity for f in said(fitting, rule="weight_scale")] == ["info"]


# ---- information ----


@pytest.mark.parametrize("std, expected", [(0.2, True), (3.0, True), (2**0.5, False), (1.0, False)])
def test_unit_variance_speaks_of_plain_runs_that_are_far_from_it(std, expected):
    def report(norm):
        made = [nn.Linear(64, 64, bias=False) for _ in range(4)]
        for i, linear in enumerate(made):
            nn.init.normal_(linear.weight, 0.0, (std if i == 0 else 1.0) / 8)
        return profile(nn.Sequential(*[m for m in made for m in (m, norm())]), torch.randn(256, 64))

    rules = [f.rule for f in report(nn.Identity).findings]
    assert ("unit_variance" in rules) is expected
    assert "unit_variance" in {s.rule for s in report(lambda: nn.LayerNorm(64)).skipped_checks}


def test_dtypes_that_the_net_does_not_use_share_one_finding():
    found = said(layer(post=moments(std=1e-9)), rule="dtype_range")
    assert [f.severity for f in found] == ["info"]
    assert all(name in found[0].measured for name in ("float16", "float8_e4m3fn", "float8_e5m2"))


def test_layers_that_all_leave_their_dtype_s_range_share_one_finding():
    scales = (2000.0, 5000.0, 1.0, 3000.0)
    layers = [
        layer(name=f"b.{i}", post=moments(std=scale), dtype=torch.float16)
        for i, scale in enumerate(scales)
    ]
    found = [f for f in Report(layers).findings if f.rule == "dtype_range"]
    (own,) = [f for f in found if f.severity == "warning"]
    assert (own.first, own.last, own.names) == (0, 3, ("b.0", "b.3"))
    assert own.measured.startswith("worst of 3 layers, at layer 1: the output reaches")


@pytest.mark.parametrize("after, alarmed", [((), False), ((nn.Linear(16, 16),), True)])
def test_a_head_may_start_at_a_prior(after, alarmed):
    head = nn.Linear(WIDTH, 16)
    normal(0.01)(head.weight)
    nn.init.constant_(head.bias, -4.6)
    hidden = nn.Linear(WIDTH, WIDTH)
    nn.init.kaiming_normal_(hidden.weight)
    net = nn.Sequential(hidden, nn.ReLU(), head, nn.Sigmoid(), *after)
    rules = rules_of(profile(net, torch.randn(BATCH, WIDTH)))
    assert bool(rules & {"saturation", "mean_drift", "collapse"}) is alarmed


def test_few_zeros_of_a_rectifier_are_chance():
    layers = nn.Linear(16, 4), nn.ReLU()
    nn.init.constant_(layers[0].bias, -9.0)
    net = nn.Sequential(*layers)
    assert not rules_of(profile(net, torch.randn(2, 16)))
    assert rules_of(profile(net, torch.randn(64, 16))) >= {"dead_units", "collapse"}


def test_a_zero_weight_that_cuts_the_net_and_one_that_starts_a_branch():
    def zeroed(net, layer):
        nn.init.zeros_(layer.weight)
        return rules_of(profile(net, torch.randn(BATCH, WIDTH)))

    net = mlp(nn.Tanh, normal(WIDTH**-0.5), 4)()
    assert zeroed(net, net[2]) == {"symmetric_units"}
    net = mlp(nn.Tanh, normal(WIDTH**-0.5), 4)()
    assert not zeroed(net, net[-1] if isinstance(net[-1], nn.Linear) else net[-2])


def test_a_weight_whose_mean_is_far_from_zero():
    net = mlp(nn.ReLU, lambda w: nn.init.normal_(w, 1.0, 0.1), 1)()
    assert "weight_scale" in rules_of(profile(net, torch.randn(BATCH, WIDTH)))


@pytest.mark.parametrize(
    "dtype, wider", [(torch.float16, "bfloat16 or float32"), (torch.float32, "float64")]
)
def test_a_wider_dtype_is_advised_than_the_nets_own(dtype, wider):
    for scale in (2.0**-149 if dtype is torch.float32 else 1e-6, torch.finfo(dtype).max / 8):
        found = said(layer(post=moments(std=scale), dtype=dtype), rule="dtype_range")
        assert any(f"use {wider} here" in f.advice for f in found if f.severity == "warning")
