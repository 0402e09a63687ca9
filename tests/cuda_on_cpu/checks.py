"""What every kernel must do, as functions of a device: for the plain and the sanitized tests."""

from __future__ import annotations

import numpy as np
import torch
from cuda_on_cpu.harness import Device, rounded

from initfast.ops import activations

RNG = np.random.default_rng

# Of an activation's value or slope, relative to max(|value|, 1): float32 arithmetic, then rounding
# (unit roundoff 2^-8 and 2^-11).
TOLERANCE = {"float32": 2e-6, "float64": 1e-13, "bfloat16": 2**-8, "float16": 2**-11}
# Of the mean (in units of the root mean square) and of the standard deviation.
MOMENTS_TOLERANCE = 1e-6


def numbers(n: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """n normal numbers with some exact zeros among them."""
    x = RNG(seed).standard_normal(n) * scale + shift
    x[RNG(seed + 1).random(n) < 0.05] = 0
    return x


def check_row(row: np.ndarray, x: np.ndarray, saturated: int = 0) -> None:
    """Hold one row of moments to float64 arithmetic on the very numbers x."""
    finite = x[np.isfinite(x)].astype(np.longdouble)
    count, nonfinite, zero, saturated_seen, mean, m2, low, high, nan, m3, m4, smallest = row
    assert (count, nonfinite) == (x.size, x.size - finite.size)
    assert zero == np.count_nonzero(x == 0)
    assert (saturated_seen, nan) == (saturated, np.isnan(x).sum())
    assert smallest == np.abs(finite[finite != 0]).min(initial=np.inf)
    if finite.size == 0:
        assert (mean, m2, m3, m4, low, high) == (0, 0, 0, 0, np.inf, -np.inf)
        return
    assert (low, high) == (finite.min(), finite.max())
    scale = max(float(np.abs(finite).max()), 1e-320)
    exact = float(finite.mean())
    spread = float((((finite - finite.mean()) / scale) ** 2).sum())
    assert abs(mean - exact) <= MOMENTS_TOLERANCE * float(
        np.sqrt(((finite / scale) ** 2).mean()) * scale
    )
    if low == high:
        assert (m2, m3, m4) == (0, 0, 0)
        return
    assert abs(np.sqrt(m2) / scale - np.sqrt(spread)) <= MOMENTS_TOLERANCE * np.sqrt(spread)
    if not 1e-70 < scale < 1e70:  # fourth powers leave float64
        return
    d = np.abs((finite - finite.mean()) / scale)
    third = float((((finite - finite.mean()) / scale) ** 3).sum())
    assert abs(m3 / scale**3 - third) <= 4 * MOMENTS_TOLERANCE * float((d**3).sum())
    assert abs(m4 / scale**4 / float((d**4).sum()) - 1) <= 4 * MOMENTS_TOLERANCE


def check_moments(device: Device, x: np.ndarray, dtype: str, **how: object) -> np.ndarray:
    row = device.moments(x, dtype, **how)
    check_row(row, rounded(x, dtype).ravel())
    return row


def check_unit_moments(device: Device, shape: tuple[int, int, int], dtype: str) -> None:
    """The units of x [outer, units, inner], with and without non-finite values."""
    x = rounded(numbers(int(np.prod(shape)), 3, 2.0, 1.0).reshape(shape), dtype)
    holed = x.copy()
    holed.reshape(-1)[::5] = np.inf
    holed[0, 0, 0] = np.nan
    for values in (x, holed):
        units = device.unit_moments(values, dtype)
        for unit, (count, mean, m2, largest) in enumerate(units.T):
            finite = values[:, unit][np.isfinite(values[:, unit])]
            assert (count, largest) == (finite.size, np.abs(finite).max(initial=0))
            exact = finite.mean() if finite.size else 0.0
            spread = np.square(finite - exact).sum()
            assert abs(mean - exact) <= 1e-12 * largest
            assert abs(m2 - spread) <= 1e-10 * (spread + 1e-300)


def check_act(
    device: Device,
    act: str,
    dtype: str,
    shape: tuple[int, ...],
    *,
    unit_dim: int = -1,
    bias: bool = False,
    seed: int = 0,
    misalign: int = 0,
    scale: float = 3.0,
    in_place: bool = False,
) -> None:
    """act over a contiguous tensor, against the reference in float64."""
    units = shape[unit_dim]
    inner = int(np.prod(shape[unit_dim % len(shape) + 1 :]))
    z = rounded(numbers(int(np.prod(shape)), seed, scale).reshape(shape), dtype)
    offset = rounded(numbers(units, seed + 7), dtype) if bias else None
    activation = activations.ACTIVATIONS[act]
    y, z_out, rows, live = device.act(
        *(z, act, activation.defaults, dtype),
        **dict(units=units, inner=inner, bias=offset, keep_z=bias, misalign=misalign),
        in_place=in_place,
    )
    if bias:
        exact = z + offset
        z_out = z_out.reshape(shape)
        assert np.all(np.abs(z_out - exact) <= TOLERANCE[dtype] * np.maximum(np.abs(exact), 1e-3))
        z = z_out
    y = y.reshape(shape)
    check_values(y, activation.value(torch.from_numpy(z), *activation.defaults).numpy(), dtype)
    check_row(rows[0], z.ravel())
    check_row(rows[1], y.ravel(), saturated=int(rows[1][3]))
    check_saturated(rows[1][3], y, activation, dtype)
    flags = np.moveaxis(y, unit_dim, 0).reshape(units, -1)
    assert np.array_equal(live, (flags != 0).any(1))


def check_values(got: np.ndarray, exact: np.ndarray, dtype: str) -> None:
    error = np.abs(got - exact) / np.maximum(np.abs(exact), 1)
    assert error.max(initial=0) <= TOLERANCE[dtype], error.max()


def check_saturated(
    got: float, y: np.ndarray, activation: activations.Activation, dtype: str
) -> None:
    """The count of saturated values: before y was rounded, so up to those near the threshold."""
    if activation.saturated is None:
        assert got == 0
        return
    near = 4 * TOLERANCE[dtype] * np.maximum(np.abs(y), 1)
    masks = [
        activation.saturated(torch.from_numpy(y + d), *activation.defaults).numpy()
        for d in (-near, 0 * near, near)
    ]
    always, ever = np.logical_and.reduce(masks).sum(), np.logical_or.reduce(masks).sum()
    assert always <= got <= ever


def check_act_backward(device: Device, act: str, dtype: str, n: int, misalign: int = 0) -> None:
    activation = activations.ACTIVATIONS[act]
    z, grad_y = rounded(numbers(n, 3, 2.0), dtype), rounded(numbers(n, 4), dtype)
    grad_z, rows = device.act_backward(
        grad_y, z, act, activation.defaults, dtype, misalign=misalign
    )
    slope = activation.slope(torch.from_numpy(z), *activation.defaults).numpy()
    check_values(grad_z, grad_y * slope, dtype)
    check_row(rows[0], grad_z)
    check_row(rows[1], grad_y)


def check_gradients_that_are_not_finite(device: Device, act: str, dtype: str) -> None:
    """Zero, infinite or NaN where the reference's are, whose tests compare it with torch."""
    activation = activations.ACTIVATIONS[act]
    at = [np.nan, np.inf, -np.inf, -200, -90, -3, -1.5, -1, -0.25, 0, 0.25, 1, 3, 4, 6, 90, 200]
    grads = [np.inf, -np.inf, np.nan]
    z, grad_y = (rounded(x.ravel(), dtype) for x in np.meshgrid(at, grads))
    grad_z, _ = device.act_backward(grad_y, z, act, activation.defaults, dtype)
    wide = torch.float64 if dtype == "float64" else torch.float32
    expected = activation.backward(
        *(torch.from_numpy(x).to(wide) for x in (grad_y, z)), *activation.defaults
    )
    assert np.array_equal(grad_z, expected.numpy(), equal_nan=True)


def check_linear_act(
    device: Device,
    rows: int,
    cols: int,
    depth: int,
    dtype: str,
    act: str = "tanh",
    *,
    bias: bool = True,
    padding: int = 0,
    misalign: int = 0,
    seed: int = 0,
) -> tuple[np.ndarray, ...]:
    activation = activations.ACTIVATIONS[act]
    x = rounded(numbers(rows * depth, seed).reshape(rows, depth), dtype)
    weight = rounded(numbers(cols * depth, seed + 5, depth**-0.5 if depth else 1), dtype)
    weight = weight.reshape(cols, depth)
    offset = rounded(numbers(cols, seed + 9), dtype) if bias else None
    y, z, moments, live = device.linear_act(
        x, weight, offset, act, activation.defaults, dtype, padding=padding, misalign=misalign
    )
    exact = x @ weight.T + (offset if bias else 0)
    # Every partial sum rounds: the usual bound, with sums a few terms long in place of depth.
    size = np.abs(x) @ np.abs(weight).T + (np.abs(offset) if bias else 0)
    bound = 2**-24 * (8 + depth / 64) * size + TOLERANCE[dtype] * np.abs(exact)
    assert np.all(np.abs(z - exact) <= bound + 1e-30), np.max(np.abs(z - exact) - bound)
    check_values(y, activation.value(torch.from_numpy(z), *activation.defaults).numpy(), dtype)
    check_row(moments[0], z.ravel())
    check_row(moments[1], y.ravel(), saturated=int(moments[1][3]))
    check_row(moments[2], weight.ravel())
    check_saturated(moments[1][3], y, activation, dtype)
    assert np.array_equal(live, (y != 0).any(0))
    return y, z, moments
