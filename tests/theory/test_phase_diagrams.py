"""Critical lines and half-stable points against 15-digit ones."""

import math

import pytest
import torch
from torch import nn

from initfast.errors import ArgumentError
from initfast.theory import NoSuchPoint, chi, critical, fixed_point, half_stable, phase_diagram

SIGMA_B = (0.05, 0.1, 0.2, 0.05**0.5, 0.3, 0.5)


def scaled_erf(x):
    return torch.erf(math.sqrt(math.pi) / 2 * x)


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


# fmt: off
LINES = [
    ("tanh",
     (1.12253900477, 1.19340072502, 1.30414584006, 1.32700966071, 1.39558397516, 1.54967391251)),
    (torch.erf,
     (0.993686290354, 1.05559464919, 1.15279541349, 1.17296163933, 1.23367250584, 1.37133047032)),
    (scaled_erf,
     (1.11199375546, 1.17656582278, 1.27795228013, 1.29898476044, 1.36229841296, 1.50584749644)),
    ("hardtanh",
     (1.00885348517, 1.02570035069, 1.06860884367, 1.07960395036, 1.11614499966, 1.21314784719)),
    (torch.atan,
     (1.12439056241, 1.19644826488, 1.30829710367, 1.33125009929, 1.39979223353, 1.55217617749)),
    ("softsign",
     (1.36105091045, 1.51286807025, 1.72962861923, 1.77235640774, 1.897491773, 2.16622711904)),
    (torch.sin,
     (1.09281669198, 1.14226671894, 1.21233318815, 1.22558969584, 1.26266460466, 1.33032882823)),
    ("elu",
     (1.13186978631, 1.17614847371, 1.22925112414, 1.23843382207, 1.26310784512, 1.30611167294)),
    ("selu",
     (0.822012643696, 0.87191316125, 0.937475582105, 0.949613548643, 0.9836914693, 1.04963733403)),
    ("gelu",
     (1.851902785, 1.72707827531, 1.54700947042, 1.51740551986, 1.4504704099, 1.39986821641)),
    ("silu",
     (1.90501359247, 1.82005172226, 1.67953160069, 1.6518509395, 1.57562143872, 1.45694742435)),
    ("mish",
     (1.59716723443, 1.54097487255, 1.46343920779, 1.45079203742, 1.4211071836, 1.39343010547)),
    ("sigmoid",
     (10.1495619734, 10.1504564807, 10.1540302742, 10.1552200366, 10.1599716072, 10.178859551)),
]
# fmt: on


@pytest.mark.parametrize("f, line", LINES)
def test_critical_lines(f, line):
    for sigma_b, sigma_w in zip(SIGMA_B, line, strict=True):
        # The published one is of a rounded sigma_b.
        assert critical(f, sigma_b) == pytest.approx(sigma_w, rel=1e-10)


@pytest.mark.parametrize(
    "f, sigma_w",
    [
        ("identity", 1),
        ("tanh", 1),
        (torch.sin, 1),
        (torch.atan, 1),
        ("hardtanh", 1),
        ("softsign", 1),
        (torch.erf, math.sqrt(math.pi) / 2),
        ("relu", math.sqrt(2)),
        (nn.LeakyReLU(0.3), math.sqrt(2 / 1.09)),
        ("gelu", 2),
        ("silu", 2),
    ],
)
def test_without_biases_it_is_the_slope_at_0(f, sigma_w):
    assert critical(f, 0.0) == pytest.approx(sigma_w, rel=1e-8)


def test_chi_is_1_at_the_fixed_point():
    for name in ("tanh", "elu", "hardtanh"):
        point = fixed_point(name, critical(name, 0.3), 0.3)
        assert point.phase == "critical" and point.c == pytest.approx(1, abs=1e-6)
        assert point.chi == pytest.approx(chi(name, point.q, critical(name, 0.3)), rel=1e-12)


@pytest.mark.parametrize(
    "f, K, C_W, C_b",
    [
        ("gelu", (3 + math.sqrt(17)) / 2, 1.98305825743755, 0.172922390756067),
        ("silu", 14.3201736180258, 1.98800467826949, 0.55514317072153),
        ("gelu_tanh", 3.55677284471511, 1.98288823982109, 0.172895198263816),
        (quick_gelu, 4.94343891337688, 1.98800467826949, 0.191639879923367),
        ("mish", 1.67016913247808, 2.01352406971953, 0.0945217873706653),
    ],
)
def test_half_stable_points(f, K, C_W, C_b):
    point = half_stable(f)
    assert point.q == pytest.approx(K, rel=1e-8)
    assert point.sigma_w**2 == pytest.approx(C_W, rel=1e-10)
    assert point.sigma_b**2 == pytest.approx(C_b, rel=1e-8)


def test_every_variance_of_relu_is_half_stable():
    for f, square in (("relu", 2), ("identity", 1), (nn.LeakyReLU(0.3), 2 / 1.09)):
        point = half_stable(f)
        assert (point.q, point.sigma_b) == (1.0, 0.0)
        assert point.sigma_w**2 == pytest.approx(square, rel=1e-12)


@pytest.mark.parametrize(
    "call, reason",
    [
        (
            lambda: critical("softplus", 0.1),
            "softplus has no critical point: sigma_b² would be neg",
        ),
        (
            lambda: critical("softplus", 0.0),
            "softplus has no critical point: sigma_b² would be neg",
        ),
        (lambda: critical("relu", 0.1), r"no critical point at sigma_b 0\.1; expected at most 0$"),
        (lambda: critical(torch.sign, 0.1), "sign jumps, so no sigma_w makes chi 1"),
        (lambda: critical(torch.ones_like, 0.1), "ones_like"),
        (lambda: half_stable("tanh"), "tanh has no variance above 0 at which chi and the slope"),
        (lambda: half_stable("softplus"), "softplus has no variance above 0"),
        (lambda: half_stable(torch.sign), "sign has no variance above 0"),
    ],
)
def test_what_there_is_none_of_is_explained(call, reason):
    with pytest.raises(NoSuchPoint, match=reason):
        call()


def test_a_negative_sigma_is_named():
    for call in (critical, lambda f, b: phase_diagram(f, [1.0], [b])):
        with pytest.raises(ArgumentError, match=r"sigma_b is -0\.1; expected a standard deviation"):
            call("tanh", -0.1)
    with pytest.raises(ArgumentError, match=r"sigma_w is -1\.0"):
        phase_diagram("tanh", [-1.0], [0.1])


def test_the_diagram_agrees_with_its_points():
    diagram = phase_diagram("tanh", torch.tensor([0.8, 1.3, 2.0]), [0.0, 0.1, 0.5])
    assert diagram.q.shape == diagram.chi.shape == (3, 3) and diagram.q.dtype == torch.float64
    for i, sigma_b in enumerate(diagram.sigma_b.tolist()):
        for j, sigma_w in enumerate(diagram.sigma_w.tolist()):
            point = fixed_point("tanh", sigma_w, sigma_b)
            assert diagram.q[i, j] == pytest.approx(point.q, rel=1e-12)
            assert diagram.chi[i, j] == pytest.approx(point.chi, rel=1e-9)
    assert diagram.critical.tolist() == [critical("tanh", b) for b in (0.0, 0.1, 0.5)]
    assert torch.equal(diagram.chi > 1, diagram.sigma_w > diagram.critical[:, None])


def test_a_diagram_of_its_own_grid_lies_about_the_critical_line():
    for name in ("relu", "softplus"):
        diagram = phase_diagram(name, sigma_b=[0.0, 0.2])
        assert diagram.sigma_w.shape == (25,)
        assert diagram.q.isinf().any() and torch.equal(diagram.q.isinf(), diagram.chi.isnan())
    assert diagram.critical.isnan().all()
