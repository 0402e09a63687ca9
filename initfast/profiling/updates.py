"""Updates: what an optimiser's step does to each parameter, beside what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from initfast.stats.outcome import Update


class Updates:
    """Measures the updates of a net's parameters by what they were and what they are.

    Between `before` and `after` the parameters with a gradient are kept twice: an update is what
    the optimiser did, with its momentum and its decay, and not what a learning rate says.

    Args:
        net: whose parameters an optimiser changes.

    Attributes:
        is_due: whether the next step of an optimiser that is watched is measured.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self.is_due = False
        self._weights: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}
        self._changes: dict[str, Tensor] = {}

    def watch(self, optimizer: Optimizer | None) -> Callable[[], None]:
        """Measure its steps that are due, until what is returned is called."""
        if optimizer is None:
            return lambda: None

        def begin(*_: Any) -> None:
            if self.is_due:
                self.before()

        def end(*_: Any) -> None:
            if self.awaited:
                self.after()
            self.is_due = False

        hooks = optimizer.register_step_pre_hook(begin), optimizer.register_step_post_hook(end)

        def release() -> None:
            for hook in hooks:
                hook.remove()

        return release

    @property
    def awaited(self) -> bool:
        """Whether the step has begun, and is not over."""
        return bool(self._weights)

    @torch.no_grad()
    def before(self) -> None:
        """When all gradients are there, just before the step."""
        self._weights, self._gradients = {}, {}
        for name, parameter in self._net.named_parameters():
            if parameter.requires_grad and parameter.grad is not None:
                self._weights[name] = parameter.detach().clone()
                self._gradients[name] = _rms(parameter.grad)

    @torch.no_grad()
    def after(self) -> None:
        """Just after the step; what was kept is dropped."""
        now = dict(self._net.named_parameters())
        weights, self._weights = self._weights, {}
        self._changes = {
            name: _rms(now[name].detach() - weight) / _rms(weight)
            for name, weight in weights.items()
        }

    def found(self) -> dict[str, Update]:
        """Those of the last step, by the parameters' names, copied from their device at once."""
        pairs = [torch.stack([x.cpu(), self._gradients[n].cpu()]) for n, x in self._changes.items()]
        rows = torch.stack(pairs).tolist() if pairs else []
        return {n: Update(*row) for n, row in zip(self._changes, rows, strict=True)}


def _rms(values: Tensor) -> Tensor:
    dense = values.to_dense() if values.is_sparse else values
    return dense.double().square().mean().sqrt()
