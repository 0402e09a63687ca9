"""Sees the cross-entropies that a loss computes: what they come to before any training is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from initfast.torch_state import leave_mode, mode_stack
from initfast.undo_log import UndoLog

T = TypeVar("T")


class CrossEntropies(TorchFunctionMode):
    """Keeps each cross-entropy of classes that is a mean without class weights.

    Attributes:
        found: how many classes, and the value on its device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, Tensor]] = []

    def watch(self, loss: Callable[[], T], log: UndoLog) -> T:
        """What the loss returns."""
        log.add(leave_mode, self, mode_stack())
        self.__enter__()
        return loss()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        y = func(*args, **(kwargs or {}))
        if func is F.cross_entropy and isinstance(y, Tensor):
            self._keep(y, **dict(zip(_ARGUMENTS, args, strict=False)), **(kwargs or {}))
        return y

    def _keep(self, y: Tensor, **given: Any) -> None:
        logits: Tensor = given["input"]
        if given["target"].is_floating_point():
            return  # of labels that need not sum to 1 nothing is known
        is_mean = given.get("reduction", "mean") == "mean" and given.get("reduce") is None
        if is_mean and given.get("weight") is None and given.get("size_average") is None:
            self.found.append((logits.shape[1 if logits.dim() > 1 else 0], y.detach()))


_ARGUMENTS = ("input", "target", "weight", "size_average", "ignore_index", "reduce", "reduction")
"""Of F.cross_entropy, as far as they tell what it is, in their order."""
