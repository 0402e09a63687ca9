"""Whether weights look drawn by an initialiser, of whatever scale, or trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from initfast.repair.slots import slots

_LEAST = 512
"""Elements of a weight that can tell."""

_ERRORS = 6.0
"""So many standard errors a statistic may be off."""


def looks_drawn(weight: Tensor) -> bool | None:
    """Whether a weight's elements may be independent draws from one symmetric distribution.

    All initialisers' distributions, from the uniform through the truncated normal to the normal,
    have a kurtosis from 1.8 to 3, and rows and columns of one mean square, up to chance. Training
    makes some units, and some inputs, larger than others, and the tails heavier.

    Args:
        weight: of two dimensions or more.

    Returns:
        None where it is too small, its units are equal, or it is not finite: that tells nothing.

    Example:
        >>> w = torch.randn(64, 64)
        >>> looks_drawn(3 * w), looks_drawn(w * torch.linspace(0.2, 2.0, 64))
        (True, False)
    """
    w = weight.detach().flatten(1).double()
    w = w - w.mean()  # a shift is a fault too
    square = w.square().mean()
    if w.numel() < _LEAST or min(w.shape) < 2 or not (0 < square.item() < math.inf):
        return None
    if torch.equal(w, w[:1].expand_as(w)) or torch.equal(
        w, w[:, :1].expand_as(w)
    ):  # a fault of an initialisation
        return None
    kurtosis = (w.pow(4).mean() / square**2).item()
    margin = _ERRORS * math.sqrt(24 / w.numel())
    if not 1.8 - margin <= kurtosis <= 3 + margin:
        return False
    return all(_alike(w.square().mean(d) / square, w.shape[d], kurtosis) for d in (0, 1))


def _alike(squares: Tensor, n: int, kurtosis: float) -> bool:
    """Whether relative mean squares of n elements each differ by chance alone (a chi-squared)."""
    variance = max(kurtosis - 1, 0.1) / n
    excess = (squares - 1).square().sum().item() / variance
    return excess <= len(squares) + _ERRORS * math.sqrt(2 * len(squares)) + _ERRORS**2


def trained_weights(net: nn.Module) -> tuple[list[str], int]:
    """The weights of linear layers and convolutions that do not look drawn, and how many tell."""
    found, tell = [], 0
    with torch.no_grad():
        for name, slot in slots(net).items():
            role = slot.role
            if role.kind not in ("linear", "conv") or role.part == "bias" or role.parts > 1:
                continue
            tensor = slot.tensor
            if tensor.dim() < 2 or tensor.is_meta or not tensor.is_floating_point():
                continue
            drawn = looks_drawn(tensor)
            tell += drawn is not None
            if drawn is False:
                found.append(name)
    return found, tell
