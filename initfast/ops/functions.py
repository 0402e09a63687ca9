"""The operators ``torch.ops.initfast`` as functions.

Every operator works under ``torch.compile``; :mod:`initfast.ops.schemas` registers them.

The moments that the operators return are float64: one row of twelve columns (``count, nonfinite,
zero, saturated, mean, m2, min, max, nan, m3, m4, smallest``) for each tensor measured; see
:class:`initfast.Moments`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from initfast.ops import autograd  # noqa: F401  (registers the gradients)
from initfast.ops.activations import activation
from initfast.ops.checks import check_tensors


def activation_defaults(act: str) -> tuple[float, float]:
    """The (alpha, beta) that ``torch.nn.functional``'s activation of that name defaults to.

    Args:
        act: as in :func:`linear_act`.

    Returns:
        Two numbers; 0 where the activation has no such parameter.

    Raises:
        RuntimeError: no such activation; the message lists them.

    Example:
        >>> activation_defaults("leaky_relu")
        (0.01, 0.0)
    """
    return activation(act).defaults


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
        ``(y, moments, live)``: y ``[..., out_features]`` of x's dtype; moments ``[3, 12]`` float64,
        of the pre-activation, of y and of weight; live ``[out_features]`` bool, True where a unit
        is not zero over the whole batch. Gradients flow through y.

    Raises:
        TypeError: x, weight or bias is no tensor.
        RuntimeError: shapes, dtypes or devices do not fit, or no such activation.

    Example:
        >>> x, w = torch.randn(16, 256), torch.randn(256, 256) / 16
        >>> y, moments, live = linear_act(x, w, act="tanh")
        >>> torch.allclose(y, torch.tanh(x @ w.T), atol=1e-5)
        True
    """
    check_tensors("linear_act", x=x, weight=weight)
    if bias is not None:
        check_tensors("linear_act", bias=bias)
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
        ``(y, moments, live)``: y like z; moments ``[2, 12]`` float64, of z and of y; live
        ``[z.shape[unit_dim]]`` bool. Gradients flow through y.

    Raises:
        TypeError: z is no tensor.
        RuntimeError: an unsupported dtype, no such activation or no such dimension.

    Example:
        >>> y, moments, live = act(torch.tensor([[-1.0, 2.0]]), "relu")
        >>> y.tolist(), live.tolist()
        ([[0.0, 2.0]], [False, True])
    """
    check_tensors("act", z=z)
    a, b = _parameters(act, alpha, beta)
    y, moments, live = torch.ops.initfast.act(z, act, a, b, unit_dim)
    return y, moments, live


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
        TypeError: z is no tensor.
        RuntimeError: an unsupported dtype, no such activation or no such dimension.

    Example:
        >>> z = torch.tensor([[-1.0, 2.0]])
        >>> moments, live = act_(z, "relu")
        >>> z.tolist(), live.tolist()
        ([[0.0, 2.0]], [False, True])
    """
    check_tensors("act_", z=z)
    a, b = _parameters(act, alpha, beta)
    moments, live = torch.ops.initfast.act_(z, act, a, b, unit_dim)
    count_write(z)
    return moments, live


def moments(x: Tensor) -> Tensor:
    """Counts, mean, central moments and extremes of any tensor, in one read.

    Args:
        x: any shape and strides; float32, float64, bfloat16 or float16.

    Returns:
        ``[12]`` float64: count, nonfinite, zero, saturated (0 here), mean, m2, min, max, nan, m3,
        m4, smallest; wrap it in :class:`initfast.Moments` for std and the rest. Against exact
        arithmetic std is within 1e-6 of itself, kurtosis within 2e-6, and skewness within 2e-6 of
        E|d|**3 / std**3, for magnitudes from 1e-37 to 1e37 and subnormal ones. Gradients flow
        through the mean, the central moments and the extremes.

    Raises:
        TypeError: x is no tensor.
        RuntimeError: an unsupported dtype.

    Example:
        >>> moments(torch.tensor([1.0, 2.0, 3.0]))[4].item()
        2.0
    """
    check_tensors("moments", x=x)
    return torch.ops.initfast.moments(x)


def unit_moments(x: Tensor, unit_dim: int = -1) -> tuple[Tensor, Tensor]:
    """The moments of a tensor and those of each of its units, in one read.

    Args:
        x: any shape and strides; float32, float64, bfloat16 or float16.
        unit_dim: the dimension of x that counts units: -1 after a linear layer, 1 after a
            convolution.

    Returns:
        ``(moments, units)``: moments ``[12]`` float64, as of :func:`moments`; units
        ``[4, x.shape[unit_dim]]`` float64: how many of a unit's values are finite, and of those the
        mean, the sum of the squared deviations from it, and the largest magnitude; all 0 where
        nothing is finite. The sum is exactly 0 for a unit that is the same throughout, and else
        within 4e-6 of itself, about 1e-7 as a rule, whatever the scale (of float64: 1e-12, for
        magnitudes from 1e-150 to 1e150). Where a few outliers of more than three standard
        deviations make up a unit's first, middle and last value, digits are lost. No gradient
        flows through either.

    Raises:
        RuntimeError: an unsupported dtype, or no such dimension.

    Example:
        >>> rows, units = unit_moments(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        >>> units.tolist()
        [[2.0, 2.0], [2.0, 5.0], [2.0, 0.0], [3.0, 5.0]]
    """
    check_tensors("unit_moments", x=x)
    moments, units = torch.ops.initfast.unit_moments(x, unit_dim, True)
    return moments, units


def count_write(t: Tensor) -> None:
    """Tell autograd that a tensor has changed: the operators that write to one do not."""
    if not t.is_inference():
        torch.autograd.graph.increment_version(t)


def _parameters(act: str, alpha: float | None, beta: float | None) -> tuple[float, float]:
    defaults = activation_defaults(act)
    return (
        defaults[0] if alpha is None else float(alpha),
        defaults[1] if beta is None else float(beta),
    )
