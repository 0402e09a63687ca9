"""Updates: what an optimiser's step does to each parameter, or would, beside what it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from initfast.report.report import Report
from initfast.stats.layer import Layer
from initfast.stats.outcome import Update


class Updates:
    """Measures the updates of a net's parameters by what they were and what they are.

    Between `before` and `after` the parameters are kept twice: an update is what the optimiser did,
    with its momentum and its decay, and not what a learning rate says.

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

    def watch(
        self, optimizer: Optimizer | None, next_is_due: Callable[[], bool]
    ) -> Callable[[], None]:
        """Measure an optimiser's steps that are due, until what is returned is called.

        Args:
            optimizer: None: nothing is watched.
            next_is_due: whether a call of the net that came now would be measured.
        """
        if optimizer is None:
            return lambda: None

        def begin(_: Any, args: Any, kwargs: Any) -> None:
            given = (*args[1:], *kwargs.values())  # args: of the method, the optimiser first
            if self.is_due or (any(map(callable, given)) and next_is_due()):  # a closure calls it
                self.before()

        def end(*_: Any) -> None:
            if self.awaited and self.is_due:
                self.after()
            self._weights = {}
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
        """Just before the step."""
        self._weights, self._gradients = {}, {}
        for name, parameter in self._net.named_parameters():
            if parameter.requires_grad:
                self._weights[name] = parameter.detach().clone()
                if parameter.grad is not None:
                    self._gradients[name] = _rms(parameter.grad)

    @torch.no_grad()
    def after(self) -> None:
        """Just after the step; what was kept is dropped. A closure's gradients are there now."""
        weights, self._weights, self._changes = self._weights, {}, {}
        for name, parameter in self._net.named_parameters():
            if name in weights and parameter.grad is not None:
                self._gradients[name] = _rms(parameter.grad)
            if name in weights and name in self._gradients:
                self._changes[name] = _rms(parameter.detach() - weights[name]) / _rms(weights[name])

    def found(self) -> dict[str, Update]:
        """Those of the last step, by the parameters' names, copied from their device at once."""
        pairs = [torch.stack([x.cpu(), self._gradients[n].cpu()]) for n, x in self._changes.items()]
        rows = torch.stack(pairs).tolist() if pairs else []
        return {n: Update(*row) for n, row in zip(self._changes, rows, strict=True)}


def by_gradient_descent(layers: Iterable[Layer], lr: float) -> dict[str, Update]:
    """What a step of plain gradient descent would do, from measured weights and gradients.

    Args:
        layers: of a report.
        lr: the learning rate.

    Returns:
        By the parameters' names; of those alone that are a layer's own weights.
    """
    found = {}
    for layer in layers:
        known = {layer.parameter: (layer.weight, layer.weight_grad)} if layer.parameter else {}
        path = f"{layer.name}." if layer.name else ""
        known |= {path + n: (w, layer.weight_grads.get(n)) for n, w in layer.weights.items()}
        for name, (weight, grad) in known.items():
            if weight is not None and grad is not None:
                size, change = weight.moments.rms, lr * grad.rms
                ratio = change / size if size else math.inf if change else math.nan
                found[name] = Update(ratio, grad.rms)
    return found


def with_lr(report: Report, lr: float | None) -> Report:
    """The report, with the updates that plain gradient descent would make by this learning rate."""
    if lr is not None:
        updates = by_gradient_descent(report.layers, lr)
        report.outcome = replace(report.outcome, updates=updates)
    return report


def _rms(values: Tensor) -> Tensor:
    dense = values.to_dense() if values.is_sparse else values
    dense = dense.abs() if dense.is_complex() else dense
    return dense.double().square().mean().sqrt()
