"""What the tests of the operators share: cases, float64 truth, and comparisons with it."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from initfast.ops import activations, checks

# Each activation with torch's default parameters, and those that have parameters with others.
ACTIVATIONS = [
    (name, *numbers)
    for name, entry in activations.ACTIVATIONS.items()
    for numbers in (entry.defaults, *entry.examples)
]
ACTIVATION_IDS = [f"{name}-{alpha:g}-{beta:g}" for name, alpha, beta in ACTIVATIONS]
DTYPES = tuple(checks.DTYPES)


def plain(name: str, z: Tensor, alpha: float, beta: float) -> Tensor:
    """The activation by torch alone, under autograd.

    gelu is in the form that keeps its lower tail; torch's hardsigmoid has a slope of a float32 1/6.
    """
    if name == "gelu":
        return 0.5 * z * torch.special.erfc(-z / math.sqrt(2))
    if name == "hardsigmoid":
        return F.relu6(z + 3) / 6
    if name == "identity":
        return z.clone()
    entry = activations.ACTIVATIONS[name]
    function, arguments = name, dict(zip(entry.parameters, (alpha, beta), strict=False))
    if not hasattr(F, name):
        function, arguments = entry.spellings[0]
    return getattr(F, function)(z, **arguments)


def true_value(name: str, z: Tensor, alpha: float, beta: float) -> Tensor:
    """act(z) in float64."""
    return plain(name, z.detach().double(), alpha, beta)


def true_slope(name: str, z: Tensor, alpha: float, beta: float) -> Tensor:
    """act'(z) in float64, by torch's autograd."""
    wide = z.detach().double().requires_grad_()
    return torch.autograd.grad(plain(name, wide, alpha, beta).sum(), wide)[0]


def has_plateau(name: str, alpha: float, beta: float) -> bool:
    """Whether the activation tends to a number other than zero; others never saturate."""
    z = torch.tensor([[-1e9, 1e9], [-1e8, 1e8]], dtype=torch.float64)
    far, near = true_value(name, z, alpha, beta)
    return bool(((far - near).abs() < 1e-6).logical_and(far.abs() > 1e-6).any())


def assert_row(row: Tensor, x: Tensor, saturated: int = 0, rtol: float = 1e-6) -> None:
    """Hold one row of moments to x's own in float64.

    The mean may be off by rtol standard deviations, std by rtol of itself, m3 and m4 by four
    times rtol of the sums of the deviations' magnitudes; the rest is exact.
    """
    assert row.dtype == torch.float64 and row.shape == (12,)
    values = x.detach().double().reshape(-1).numpy().astype(np.longdouble)
    finite = values[np.isfinite(values)]
    count, nonfinite, zero, counted, mean, m2, low, high, nan, m3, m4, smallest = row.tolist()
    assert (count, nonfinite) == (values.size, values.size - finite.size)
    assert (zero, counted, nan) == ((values == 0).sum(), saturated, np.isnan(values).sum())
    assert smallest == np.abs(finite[finite != 0]).min(initial=math.inf)
    if finite.size == 0:
        assert (mean, m2, m3, m4, low, high) == (0, 0, 0, 0, math.inf, -math.inf)
        return
    assert (low, high) == (finite.min(), finite.max())
    assert low <= mean <= high
    # From one of them: of numbers that differ in their last place, their mean is known no better.
    apart = finite - finite[0]
    centre, d = finite[0] + apart.mean(), apart - apart.mean()
    true_m2 = np.square(d).sum()
    true_std = math.sqrt(true_m2 / finite.size)
    assert abs(mean - centre) <= rtol * true_std + 1e-15 * abs(centre)
    assert abs(math.sqrt(m2 / finite.size) - true_std) <= rtol * true_std
    if low == high:
        assert (mean, m2, m3, m4) == (low, 0, 0, 0)
        return
    d = d / true_std
    third, fourth = (m / finite.size / true_std**k for m, k in ((m3, 3), (m4, 4)))
    assert abs(third - (d**3).mean()) <= 4 * rtol * (np.abs(d) ** 3).mean()
    assert abs(fourth - (d**4).mean()) <= 4 * rtol * (d**4).mean()


def layouts(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Normal tensors of one shape that lie in memory in every way that torch knows."""

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, dtype=torch.float64).to(dtype)

    ways = {"contiguous": normal(*shape)}
    ways["offset"] = normal(math.prod(shape) + 1)[1:].view(shape)
    if shape:
        ways["transposed"] = normal(*shape[::-1]).permute(*reversed(range(len(shape))))
        ways["every other"] = normal(*shape[:-1], 2 * shape[-1])[..., ::2]
        ways["rows apart"] = normal(*shape[:-1], shape[-1] + 3)[..., 2 : shape[-1] + 2]
        ways["expanded"] = normal(1, *shape[1:]).expand(shape)
        ways["one number"] = normal(*[1] * len(shape)).expand(shape)
    if len(shape) > 1:
        ways["first two swapped"] = normal(shape[1], shape[0], *shape[2:]).transpose(0, 1)
        ways["last expanded"] = normal(*shape[:-1], 1).expand(shape)
    if len(shape) == 4:
        ways["channels last"] = normal(*shape).contiguous(memory_format=torch.channels_last)
        ways["channels last, cropped"] = normal(*shape[:2], shape[2] + 2, shape[3] + 1).contiguous(
            memory_format=torch.channels_last
        )[:, :, 1:-1, 1:]
    assert all(t.shape == shape for t in ways.values())
    return ways


SHAPES = (
    (),
    (0,),
    (1,),
    (7,),
    (3, 0),
    (0, 5),
    (4, 1),
    (5, 17),
    (2, 0, 3),
    (2, 3, 33),
    (3, 5, 4, 6),
    (1, 2, 1, 3, 1),
    (4097,),
    (65, 129),
)


def layers(widths, dtype=torch.float32):
    """Weights, biases, names, alphas and betas of layers between these widths."""
    acts = [ACTIVATIONS[i % len(ACTIVATIONS)] for i in range(len(widths) - 1)]
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    weights = [torch.randn(m, n).to(dtype) / max(1, n) ** 0.5 for m, n in shapes]
    biases = [torch.randn(m).to(dtype) if i % 2 else None for i, (m, _) in enumerate(shapes)]
    return weights, biases, *map(list, zip(*acts, strict=True))
