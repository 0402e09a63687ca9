"""The operators ``torch.ops.initfast``: schemas, shapes, gradients, and functions to call them by.

Kernels come from the native library where it is loaded (CPU) and from
:mod:`initfast.reference` everywhere else. Every operator works under ``torch.compile``.

The moments that the operators return are float64: one row of eight columns (``count, nonfinite,
zero, saturated, mean, m2, min, max``) for each tensor measured; see :class:`initfast.Moments`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from initfast import reference, reference_sample
from initfast._library import load

LIBRARY = load()
"""What is loaded; see :func:`initfast.build_info`."""

_ACT = "str act, float alpha, float beta"
_SCHEMAS = {
    "linear_act": f"(Tensor x, Tensor weight, Tensor? bias, {_ACT}, bool save_z)"
    " -> (Tensor y, Tensor z, Tensor moments, Tensor live)",
    "linear_act_chain": "(Tensor x, Tensor[] weights, Tensor?[] biases, str[] acts, "
    "float[] alphas, float[] betas) -> (Tensor y, Tensor moments, Tensor live)",
    "act": f"(Tensor z, {_ACT}, int unit_dim) -> (Tensor y, Tensor moments, Tensor live)",
    "act_backward": f"(Tensor grad_y, Tensor z, {_ACT}) -> (Tensor grad_z, Tensor moments)",
    "moments": "(Tensor x) -> Tensor",
}

_definitions = torch.library.Library("initfast", "DEF")
for _name, _schema in _SCHEMAS.items():
    _definitions.define(_name + _schema, tags=torch.Tag.pt2_compliant_tag)
    _definitions.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")


# ---- shapes without data ----


@torch.library.register_fake("initfast::linear_act", lib=_definitions)
def _(
    x: Tensor, weight: Tensor, bias: Any, act: str, alpha: float, beta: float, save_z: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    reference.check_activation(act, alpha, beta)
    reference.check_linear(x, weight, bias)
    y = x.new_empty((*x.shape[:-1], weight.shape[0]))
    z = y.new_empty(y.shape if save_z else 0)
    return y, z, x.new_empty((3, 8), dtype=torch.float64), _live(x, weight.shape[0])


@torch.library.register_fake("initfast::linear_act_chain", lib=_definitions)
def _(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    acts: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:
    reference.check_chain(weights, biases, acts, alphas, betas)
    for weight, bias, act, alpha, beta in zip(weights, biases, acts, alphas, betas, strict=True):
        reference.check_activation(act, alpha, beta)
        reference.check_linear(x, weight, bias)
        x = x.new_empty((*x.shape[:-1], weight.shape[0]))
    rows = x.new_empty((len(weights), 3, 8), dtype=torch.float64)
    return x, rows, _live(x, sum(weight.shape[0] for weight in weights))


@torch.library.register_fake("initfast::act", lib=_definitions)
def _(
    z: Tensor, act: str, alpha: float, beta: float, unit_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    reference.check_activation(act, alpha, beta)
    reference.check_act(z, unit_dim)
    units = z.shape[unit_dim] if z.dim() else 1
    return torch.empty_like(z), z.new_empty((2, 8), dtype=torch.float64), _live(z, units)


@torch.library.register_fake("initfast::act_backward", lib=_definitions)
def _(grad_y: Tensor, z: Tensor, act: str, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    reference.check_activation(act, alpha, beta)
    reference.check_act_backward(grad_y, z)
    return torch.empty_like(z), z.new_empty((2, 8), dtype=torch.float64)


@torch.library.register_fake("initfast::moments", lib=_definitions)
def _(x: Tensor) -> Tensor:
    reference.check_dtype(x, "moments", "x")
    return x.new_empty(8, dtype=torch.float64)


def _live(like: Tensor, units: int) -> Tensor:
    return like.new_empty(units, dtype=torch.bool)


# ---- gradients: through y; moments and live carry none, but for those of `moments` itself ----


def _keep_linear(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, _, ctx.act, ctx.alpha, ctx.beta, save_z = inputs
    _, z, moments, live = output
    ctx.mark_non_differentiable(z, moments, live)
    ctx.has_z = save_z
    ctx.save_for_backward(x, weight, z)


def _linear_act_gradient(ctx: Any, grad_y: Tensor, *_: Any) -> tuple[Any, ...]:
    x, weight, z = ctx.saved_tensors
    grad_z = grad_y
    if ctx.act != "identity":
        if not ctx.has_z:
            raise RuntimeError(
                "initfast::linear_act: the gradient needs the pre-activation; "
                "expected save_z=True where an argument requires a gradient"
            )
        grad_z, _moments = torch.ops.initfast.act_backward(grad_y, z, ctx.act, ctx.alpha, ctx.beta)
    return (*linear_gradients(grad_z, x, weight, ctx.needs_input_grad), None, None, None, None)


def linear_gradients(
    grad_z: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of a linear layer's x, weight and bias, those that are needed."""
    count = math.prod(x.shape[:-1])  # reshape cannot tell a -1 beside a dimension of 0
    rows = grad_z.reshape(count, weight.shape[0])
    grad_x = (rows @ weight).reshape(x.shape) if needed[0] else None
    grad_weight = rows.t() @ x.reshape(count, weight.shape[1]) if needed[1] else None
    return grad_x, grad_weight, rows.sum(0) if needed[2] else None


def _keep_act(ctx: Any, inputs: Any, output: Any) -> None:
    z, ctx.act, ctx.alpha, ctx.beta, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(z)


def _act_gradient(ctx: Any, grad_y: Tensor, *_: Any) -> tuple[Any, ...]:
    (z,) = ctx.saved_tensors
    grad_z, _moments = torch.ops.initfast.act_backward(grad_y, z, ctx.act, ctx.alpha, ctx.beta)
    return grad_z, None, None, None, None


def _keep_moments(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _moments_gradient(ctx: Any, grad: Tensor) -> Tensor:
    """Of mean and m2 by calculus; of an extreme, shared by the elements that attain it."""
    x, row = ctx.saved_tensors
    count, nonfinite, _, _, mean, _, low, high = row.unbind()
    _, _, _, _, grad_mean, grad_m2, grad_low, grad_high = grad.unbind()
    wide = x.double()
    lowest, highest = wide == low, wide == high
    slope = grad_mean / (count - nonfinite) + 2 * grad_m2 * (wide - mean)
    slope = slope + lowest * (grad_low / lowest.sum()) + highest * (grad_high / highest.sum())
    return torch.where(torch.isfinite(x), slope, 0.0).to(x.dtype)


def _no_double_backward(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "initfast::act_backward has no gradient of its own: second derivatives through "
        "initfast's operators are not supported; use the plain torch activation for them"
    )


def _no_chain_gradient(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "initfast::linear_act_chain has no gradient: where one is wanted, call linear_act for each"
    )


torch.library.register_autograd(
    "initfast::linear_act", _linear_act_gradient, setup_context=_keep_linear, lib=_definitions
)
torch.library.register_autograd(
    "initfast::act", _act_gradient, setup_context=_keep_act, lib=_definitions
)
torch.library.register_autograd(
    "initfast::moments", _moments_gradient, setup_context=_keep_moments, lib=_definitions
)
torch.library.register_autograd("initfast::act_backward", _no_double_backward, lib=_definitions)
torch.library.register_autograd("initfast::linear_act_chain", _no_chain_gradient, lib=_definitions)


# ---- to call them by ----


def activation_defaults(act: str) -> tuple[float, float]:
    """The (alpha, beta) that ``torch.nn.functional``'s activation of that name defaults to.

    Raises:
        RuntimeError: no such activation; the message lists them.
    """
    return reference.activation(act).defaults


def linear_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    act: str = "identity",
    alpha: float | None = None,
    beta: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A linear layer, its activation, and the moments of weight and both results, in one.

    Args:
        x: ``[..., in_features]``; float32, float64, bfloat16 or float16.
        weight: ``[out_features, in_features]``, of x's dtype and device.
        bias: ``[out_features]`` or None.
        act: the activation's name in ``torch.nn.functional``, ``"gelu_tanh"`` or ``"identity"``.
        alpha: its first parameter (``negative_slope``; ``alpha``; softplus' ``beta``; hardtanh's
            ``min_val``); torch's default where None.
        beta: its second (softplus' ``threshold``; hardtanh's ``max_val``); likewise.

    Returns:
        ``(y, moments, live)``: y ``[..., out_features]`` of x's dtype; moments ``[3, 8]`` float64,
        of the pre-activation, of y and of weight; live ``[out_features]`` bool, True where a unit
        is not zero over the whole batch. Gradients flow through y.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit, or no such activation.

    Example:
        >>> x, w = torch.randn(16, 256), torch.randn(256, 256) / 16
        >>> y, moments, live = linear_act(x, w, act="tanh")
        >>> torch.allclose(y, torch.tanh(x @ w.T), atol=1e-5)
        True
    """
    a, b = _parameters(act, alpha, beta)
    save_z = torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    )
    y, _, moments, live = torch.ops.initfast.linear_act(x, weight, bias, act, a, b, save_z)
    return y, moments, live


def act(
    z: Tensor,
    act: str,
    alpha: float | None = None,
    beta: float | None = None,
    unit_dim: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:
    """An activation and the moments of its input and output: one read, one write.

    Args:
        z: the pre-activation, any shape; float32, float64, bfloat16 or float16.
        act: the activation's name; see :func:`linear_act` for it, alpha and beta.
        alpha: its first parameter, or None.
        beta: its second, or None.
        unit_dim: the dimension of z that counts units: -1 after a linear layer, 1 after a
            convolution.

    Returns:
        ``(y, moments, live)``: y like z; moments ``[2, 8]`` float64, of z and of y; live
        ``[z.shape[unit_dim]]`` bool. Gradients flow through y.

    Raises:
        RuntimeError: an unsupported dtype, no such activation or no such dimension.

    Example:
        >>> y, moments, live = act(torch.tensor([[-1.0, 2.0]]), "relu")
        >>> y.tolist(), live.tolist()
        ([[0.0, 2.0]], [False, True])
    """
    a, b = _parameters(act, alpha, beta)
    y, moments, live = torch.ops.initfast.act(z, act, a, b, unit_dim)
    return y, moments, live


def moments(x: Tensor) -> Tensor:
    """Count, mean, spread and extremes of any tensor, in one read.

    Args:
        x: any shape and strides; float32, float64, bfloat16 or float16.

    Returns:
        ``[8]`` float64: count, nonfinite, zero, saturated (0 here), mean, m2, min, max; wrap it in
        :class:`initfast.Moments` for std and the rest. Gradients flow through mean, m2 and the
        extremes.

    Raises:
        RuntimeError: an unsupported dtype.

    Example:
        >>> moments(torch.tensor([1.0, 2.0, 3.0]))[4].item()
        2.0
    """
    return torch.ops.initfast.moments(x)


# ---- an activation in place: no gradient, it overwrites ----

_definitions.define(
    f"act_(Tensor(a!) z, {_ACT}, int unit_dim) -> (Tensor moments, Tensor live)",
    tags=torch.Tag.pt2_compliant_tag,
)


def _overwrite(
    z: Tensor, act: str, alpha: float, beta: float, unit_dim: int
) -> tuple[Tensor, Tensor]:
    y, moments, live = torch.ops.initfast.act(z, act, alpha, beta, unit_dim)
    z.copy_(y)
    return moments, live


_definitions.impl("act_", _overwrite, "CompositeExplicitAutograd")


@torch.library.register_fake("initfast::act_", lib=_definitions)
def _(z: Tensor, act: str, alpha: float, beta: float, unit_dim: int) -> tuple[Tensor, Tensor]:
    reference.check_activation(act, alpha, beta)
    reference.check_act(z, unit_dim)
    live = _live(z, z.shape[unit_dim] if z.dim() else 1)
    return z.new_empty((2, 8), dtype=torch.float64), live


def act_(
    z: Tensor,
    act: str,
    alpha: float | None = None,
    beta: float | None = None,
    unit_dim: int = -1,
) -> tuple[Tensor, Tensor]:
    """An activation that overwrites its input, and the moments of both: one read, one write.

    Args:
        z: the pre-activation, overwritten with act(z); no gradient flows through it.
        act: the activation's name; see :func:`linear_act` for it, alpha and beta.
        alpha: its first parameter, or None.
        beta: its second, or None.
        unit_dim: the dimension of z that counts units; see :func:`act`.

    Returns:
        ``(moments, live)``, as of :func:`act`.

    Raises:
        RuntimeError: an unsupported dtype, no such activation or no such dimension.

    Example:
        >>> z = torch.tensor([[-1.0, 2.0]])
        >>> moments, live = act_(z, "relu")
        >>> z.tolist(), live.tolist()
        ([[0.0, 2.0]], [False, True])
    """
    a, b = _parameters(act, alpha, beta)
    moments, live = torch.ops.initfast.act_(z, act, a, b, unit_dim)
    if not z.is_inference():
        torch.autograd.graph.increment_version(z)
    return moments, live


# ---- the sampler: no gradient, it overwrites ----

_definitions.define(
    "sample_(Tensor(a!) out, str shape, Tensor? table, float scale, float location, float low, "
    "float high, int key, int offset, int[] strides) -> ()",
    tags=torch.Tag.pt2_compliant_tag,
)
_definitions.impl("sample_", reference_sample.sample_, "CompositeExplicitAutograd")


@torch.library.register_fake("initfast::sample_", lib=_definitions)
def _(*arguments: Any) -> None:
    return None


def sample_(
    out: Tensor,
    shape: str,
    table: Tensor | None,
    scale: float,
    location: float,
    low: float,
    high: float,
    key: int,
    offset: int,
    strides: Sequence[int],
) -> None:
    """Fill a tensor, or a slice of a greater one, with random numbers from the stream of a key.

    The element at local index (i, j, ...) is number ``offset + i strides[0] + j strides[1] + ...``
    of the stream: ``clamp(location + scale x, low, high)``, where x comes from that number's word.
    Nothing else decides it: not threads, device, layout or the slice it is drawn in.

    Args:
        out: float32, float64, bfloat16 or float16, any strides, no two elements sharing memory. The
            16-bit types hold the rounded float32 numbers.
        shape: "uniform" (x is the word as a signed integer), or the table's: "symmetric", "skewed"
            or "one_sided".
        table: None, or a table of :mod:`initfast.quantile` on the CPU; float64 for float64, else
            float32.
        scale, location, low, high: numbers, rounded to the table's dtype.
        key: 64 bits, signed.
        offset: the global index of out's first element.
        strides: of the global, logical tensor, in elements, one for each dimension of out.

    Raises:
        RuntimeError: an unsupported dtype or shape, or a table or strides that do not fit.

    Example:
        >>> whole, part = torch.empty(6), torch.empty(3)
        >>> sample_(whole, "uniform", None, 2.0**-32, 0.5, 0.0, 1.0, 7, 0, (1,))
        >>> sample_(part, "uniform", None, 2.0**-32, 0.5, 0.0, 1.0, 7, 1, (2,))
        >>> torch.equal(part, whole[1::2])
        True
    """
    torch.ops.initfast.sample_(
        out, shape, table, scale, location, low, high, key, offset, list(strides)
    )
    if not out.is_inference():
        torch.autograd.graph.increment_version(out)


_definitions.define(
    "zero_rows_(Tensor(a!) out, int count, int key) -> ()", tags=torch.Tag.pt2_compliant_tag
)
_definitions.impl("zero_rows_", reference_sample.zero_rows_, "CompositeExplicitAutograd")


@torch.library.register_fake("initfast::zero_rows_", lib=_definitions)
def _(*arguments: Any) -> None:
    return None


def zero_rows_(out: Tensor, count: int, key: int) -> Tensor:
    """Zero some elements of each column of a matrix, each set of rows being equally likely.

    By Floyd's method (Bentley & Floyd 1987, "A sample of brilliance"): for each last row of
    rows - count ... rows - 1, choose a row up to it, or the last row itself where that one is
    chosen already. Number ``column * rows + last`` of the key's stream decides.

    Args:
        out: ``[rows, cols]``, any strides; float32, float64, bfloat16 or float16.
        count: of zeros in each column, 0 to rows.
        key: 64 bits, signed.

    Returns:
        out.

    Raises:
        RuntimeError: an unsupported dtype, not two dimensions, or a count that does not fit.

    Example:
        >>> (zero_rows_(torch.ones(5, 3), 2, 7) == 0).sum(0).tolist()
        [2, 2, 2]
    """
    if out.dim() != 2 or not 0 <= count <= out.shape[0]:
        raise RuntimeError(
            f"initfast::zero_rows_: out has shape {tuple(out.shape)} and count is {count}; "
            "expected a matrix and no more zeros than rows"
        )
    torch.ops.initfast.zero_rows_(out, count, key)
    if not out.is_inference():
        torch.autograd.graph.increment_version(out)
    return out


def _parameters(act: str, alpha: float | None, beta: float | None) -> tuple[float, float]:
    defaults = activation_defaults(act)
    return (
        defaults[0] if alpha is None else float(alpha),
        defaults[1] if beta is None else float(beta),
    )
