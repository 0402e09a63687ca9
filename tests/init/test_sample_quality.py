"""The samples are what they claim: moments, fit, tails, bounds, independence."""

import math

import numpy as np
import pytest
import torch
from cases.switches import LONG

from initfast import init
from initfast.ops import reference_sampling
from initfast.ops.quantile_tables import truncated_normal

COUNT = 10_000_000 if LONG else 2_000_000
COUNT_OF_OTHER_DTYPES = 10_000_000 if LONG else 200_000
INFINITY = math.inf

# Name: initialiser, bounds.
CASES = {
    "uniform [0, 1)": (lambda w: init.uniform_(w, key=1), 0.0, 1.0),
    "uniform [-3, 5)": (lambda w: init.uniform_(w, -3, 5, key=2), -3.0, 5.0),
    "normal": (lambda w: init.normal_(w, key=3), -INFINITY, INFINITY),
    "truncated ±2": (lambda w: init.trunc_normal_(w, key=4), -2.0, 2.0),
    "truncated [-1, 3]": (lambda w: init.trunc_normal_(w, 0, 1, -1, 3, key=5), -1.0, 3.0),
    "truncated [2, 3]": (lambda w: init.trunc_normal_(w, 0, 1, 2, 3, key=6), 2.0, 3.0),
    "half-normal": (lambda w: init.trunc_normal_(w, 0, 1, 0, INFINITY, key=7), 0.0, INFINITY),
    "truncated [-inf, -1]": (
        lambda w: init.trunc_normal_(w, 0, 1, -INFINITY, -1, key=8),
        -INFINITY,
        -1.0,
    ),
    "far tail [8, 9]": (lambda w: init.trunc_normal_(w, 0, 1, 8, 9, key=9), 8.0, 9.0),
    "narrow [0.1, 0.1001]": (
        lambda w: init.trunc_normal_(w, 0, 1, 0.1, 0.1001, key=10),
        0.1,
        0.1001,
    ),
}
pytestmark = pytest.mark.filterwarnings("ignore:mean is more than 2 std")


def survival(x):
    """Of the standard normal distribution, with full relative precision in the upper tail."""
    x = np.asarray(x, dtype=np.float64)
    z = np.minimum(np.abs(x), 40.0)
    scaled = torch.special.erfcx(torch.as_tensor(z / math.sqrt(2))).numpy()
    tail = scaled / 2 * np.exp(-(z**2) / 2)
    return np.where(x < 0, 1 - tail, tail)


def between_numbers(x, low, high):
    """Undo float32's rounding: each value anywhere in the interval that rounds to it."""
    half = np.spacing(np.abs(x)).astype(np.float64) / 2
    x = x + np.random.default_rng(0).uniform(-half, half)
    x = np.where(x < low, 2 * low - x, x) if math.isfinite(low) else x
    return np.where(x > high, 2 * high - x, x) if math.isfinite(high) else x


def probabilities(name, x):
    """The distribution function at x, and its complement."""
    _, low, high = CASES[name]
    if name.startswith("uniform"):
        below = (x - low) / (high - low)
        return below, 1 - below
    if low < 0:  # by the mirror image, so that both come from survivals
        mass = survival(low) - survival(high)
        return (survival(-x) - survival(-low)) / mass, (survival(x) - survival(high)) / mass
    mass = survival(low) - survival(high)
    return (survival(low) - survival(x)) / mass, (survival(x) - survival(high)) / mass


def true_moments(name, orders):
    """E (x - centre)^n for each order, and the centre, by quadrature."""
    _, low, high = CASES[name]
    a, b = max(low, -10.0), min(high, 10.0)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = (a + b) / 2 + (b - a) / 2 * nodes
    anchor = 0.0 if low <= 0 <= high else (low if low > 0 else high)
    density = np.ones_like(x) if name.startswith("uniform") else np.exp((anchor**2 - x**2) / 2)
    density = density * weights / (density * weights).sum()
    centre = (density * x).sum()
    return [(density * (x - centre) ** n).sum() for n in orders], centre


@pytest.fixture(scope="module")
def samples():
    drawn = {}

    def draw(name):
        if name not in drawn:
            drawn.clear()
            initialiser, low, high = CASES[name]
            x = initialiser(torch.empty(COUNT)).numpy()
            drawn[name] = np.sort(between_numbers(x, low, high))
        return drawn[name]

    return draw


@pytest.mark.parametrize("name", CASES)
def test_moments(name, samples):
    """The first four, each within five standard errors."""
    x = samples(name)
    orders = range(1, 9)
    expected, centre = true_moments(name, orders)
    for n in range(1, 5):
        error = np.mean((x - centre) ** n) - expected[n - 1]
        variance = expected[2 * n - 1] - expected[n - 1] ** 2
        allowed = 5 * math.sqrt(variance / COUNT)
        assert abs(error) < allowed, (n, error, allowed)


@pytest.mark.parametrize("name", CASES)
def test_fit(name, samples):
    """Kolmogorov-Smirnov and Anderson-Darling, each at one in ten thousand."""
    x = samples(name)
    below, above = probabilities(name, x)
    rank = np.arange(COUNT)
    distance = max((below - rank / COUNT).max(), ((rank + 1) / COUNT - below).max())
    assert distance * math.sqrt(COUNT) < 2.23
    logs = np.log(np.maximum(below, 2.0**-60)) + np.log(np.maximum(above[::-1], 2.0**-60))
    statistic = -COUNT - np.sum((2 * rank + 1) / COUNT * logs)
    assert statistic < 8.2


# ---- the fit of other dtypes: values are rounded, so each stands for the interval around it ----

FORMATS = {torch.float64: (52, -1022), torch.bfloat16: (7, -126), torch.float16: (10, -14)}


def rounding_interval(x, dtype):
    """The numbers that round to each x."""
    digits, least = FORMATS[dtype]
    fraction, exponent = np.frexp(np.abs(x))
    exponent = np.where(x == 0, least, np.maximum(exponent - 1, least))
    unit = np.ldexp(1.0, exponent - digits)
    outer = np.abs(x) + unit / 2
    inner = np.abs(x) - np.where((fraction == 0.5) & (exponent > least), unit / 4, unit / 2)
    return np.where(x > 0, inner, -outer), np.where(x > 0, outer, -inner)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_fit_of_other_dtypes(name, dtype):
    """Both statistics of a probability drawn evenly from each value's interval (Brockwell 2007)."""
    initialiser, low, high = CASES[name]
    count = COUNT_OF_OTHER_DTYPES
    x = np.sort(initialiser(torch.empty(count, dtype=dtype)).double().numpy())
    ends = [np.clip(end, low, high) for end in rounding_interval(x, dtype)]
    if name.startswith("uniform"):  # what rounds to the open end is the largest number below it
        largest = torch.nextafter(torch.tensor(high, dtype=dtype), torch.tensor(low, dtype=dtype))
        ends[1][x == largest.item()] = high
    (below, above), (below_end, above_end) = (probabilities(name, end) for end in ends)
    share = np.random.default_rng(0).uniform(size=count)
    below = np.sort(below + share * (below_end - below))
    above = np.sort(above + share * (above_end - above))
    rank = np.arange(count)
    distance = max((below - rank / count).max(), ((rank + 1) / count - below).max())
    assert distance * math.sqrt(count) < 2.23
    logs = np.log(np.maximum(below, 2.0**-60)) + np.log(np.maximum(above, 2.0**-60))
    assert -count - np.sum((2 * rank + 1) / count * logs) < 8.2


# ---- accuracy and tails ----


def true_quantile(low, high, v, from_high):
    """x with probability v beyond it, in float64."""
    s_low, s_high = float(survival(low)), float(survival(high))
    mass = s_low - s_high
    if from_high:
        return -torch.special.ndtri(s_high + v * mass)
    return torch.special.ndtri(1 - s_low + v * mass)


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-6), (torch.float64, 2e-13)])
@pytest.mark.parametrize("low, high", [(-INFINITY, INFINITY), (-2.0, 2.0), (-1.0, 3.0)])
def test_quantile_is_accurate(low, high, dtype, bound):
    bits = torch.finfo(dtype).bits
    table = truncated_normal(low, high, dtype)
    exponents = torch.arange(1, bits - 1)
    fractions = torch.linspace(0, 1, 65)[:-1].double()
    magnitude = (2.0 ** exponents.double()).outer(1 + fractions).flatten().long()
    for sign in (1, -1):
        x = reference_sampling.quantile(sign * magnitude, table.coefficients, table.shape).double()
        v = magnitude.double() / 2.0**bits
        truth = true_quantile(low, high, v, from_high=sign > 0)
        assert (x - truth).abs().max() < bound


def test_tails_by_construction():
    """The least and the greatest words are 6.2 (9.1) standard deviations out, in float32 (64)."""
    for dtype, reach in ((torch.float32, 6.2), (torch.float64, 9.0)):
        table = truncated_normal(-INFINITY, INFINITY, dtype)
        word = torch.tensor([1, -1, 2, -2, 0])
        x = reference_sampling.quantile(word, table.coefficients, table.shape).tolist()
        assert x[0] == -x[1] > reach and x[2] == -x[3] == x[4] < x[0]


def test_tail_counts():
    x = init.normal_(torch.empty(COUNT), key=12).double()
    for bound in (2.0, 3.0, 4.0, 4.5):
        for tail in (x > bound, x < -bound):
            expected = COUNT * float(survival(bound))
            assert abs(int(tail.sum()) - expected) < 5 * math.sqrt(expected)


def test_normal_reaches_the_tails():
    """In 2^30 draws; the gate takes 2^26 of them."""
    keys, largest, beyond = 64 if LONG else 4, 0.0, 0
    w = torch.empty(2**24)
    for key in range(keys):
        init.normal_(w, key=key).abs_()
        largest = max(largest, w.max().item())
        beyond += int((w > 5).sum())
    expected = 2 * keys * w.numel() * float(survival(5.0))
    assert largest > (5.5 if LONG else 5.2)
    assert abs(beyond - expected) < 5 * math.sqrt(expected)


def test_far_tails_are_exponential():
    """At 1000 standard deviations what lies beyond the bound is exponential of mean 1/1000."""
    x = init.trunc_normal_(torch.empty(1_000_000), -1000.0, 1.0, 0.0, INFINITY, key=1).double()
    assert x.min() >= 0 and abs(x.mean() * 1000 - 1) < 0.005
    assert abs((x * 1000).square().mean() - 2) < 0.025
    y = init.trunc_normal_(torch.empty(1_000_000), 1000.0, 1.0, -INFINITY, 0.0, key=1).double()
    assert torch.equal(y, -x)


# ---- bounds ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "mean, std, a, b",
    [
        (0, 1, -2, 2),
        (0.3, 0.02, 0.1, 0.7),
        (0, 1, 2, 3),
        (0, 1, 8, 9),
        (0, 1, -0.1, 0.3),
        (5, 1e-3, 0.1, 0.2),
        (0, 1e-6, -1e-7, 1e-7),
        (0, 1, 0.1, 0.10001),
        (-40, 1, -INFINITY, -60.3),
    ],
)
def test_nothing_outside_the_bounds(mean, std, a, b, dtype):
    w = init.trunc_normal_(torch.empty(300_000, dtype=dtype), mean, std, a, b)
    low, high = (torch.tensor(bound, dtype=torch.float64).to(dtype) for bound in (a, b))
    assert w.min() >= low and w.max() <= high
    u = init.uniform_(torch.empty(300_000, dtype=dtype), max(a, -1e3), b)
    assert u.min() >= max(low.item(), -1e3) and u.max() <= high
    if dtype in (torch.float32, torch.float64):
        assert u.max() < high


def test_the_outermost_words_stay_inside():
    """Words at both ends of the range, which few samples meet."""
    word = torch.tensor([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1])
    for name, (_, low, high) in CASES.items():
        if name.startswith("uniform"):
            continue
        table = truncated_normal(low, high, torch.float32)
        x = reference_sampling.quantile(word, table.coefficients, table.shape)
        x = x.double() + {"low": low, "high": high, "mean": 0.0}[table.origin]
        assert torch.isfinite(x).all()
        assert (x >= low - 1e-6).all() and (x <= high + 1e-6).all()
