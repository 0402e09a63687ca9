"""The errors of bad arguments, in the kinds that torch raises for them."""

from __future__ import annotations


class ArgumentError(ValueError, RuntimeError):
    """A bad argument: torch.nn.init raises ValueError for some, RuntimeError for others."""


class TensorError(ArgumentError, NotImplementedError):
    """A tensor of a dtype or layout that cannot be filled: torch raises NotImplementedError."""
