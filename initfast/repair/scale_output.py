"""Scaling the output of a layer, and the weight that made it, as the layer runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from initfast.errors import ArgumentError
from initfast.init.placement import is_distributed
from initfast.repair.filling import copy_back
from initfast.repair.initialized import Left
from initfast.repair.rescaled import Rescaled, Scaled
from initfast.stats.moments import Moments
from initfast.undo_log import UndoLog

_TORCHS = {
    kind.forward
    for kind in (
        *(nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.MultiheadAttention),
    )
}
"""Forwards whose result is known to be multiplied by what weight and bias are."""

_SAME = 1e-3
"""Relative: so far may what a layer makes of the scaled weight be from the scaled output."""


def weighted(layer: nn.Module) -> Any:
    """The module that has the weight to scale."""
    return layer.out_proj if isinstance(layer, nn.MultiheadAttention) else layer


class ScaleOutput:
    """Scales the output of one layer, as its first call says.

    Attributes:
        calls: how often the layer was called.
        factor: what its output is multiplied by.
        waiting: the parameters to be multiplied by that once the forward has ended.
    """

    def __init__(
        self,
        name: str,
        layer: nn.Module,
        shared: dict[int, list[str]],
        tolerance: float,
        done: Rescaled,
        changes: UndoLog,
    ) -> None:
        self.name, self.layer, self.calls = name, layer, 0
        self.factor, self.waiting = 1.0, list[Tensor]()
        self._shared, self._tolerance, self._done, self._changes = shared, tolerance, done, changes

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """As a forward hook: the output, scaled."""
        self.calls += 1
        y = output[0] if isinstance(output, tuple) else output
        if self.calls == 1 and isinstance(y, Tensor) and y.numel() > 1:
            self._look(args, y)
        if not self.waiting:
            return None
        y.mul_(self.factor)
        return output

    def _look(self, args: Any, y: Tensor) -> None:
        """Decide on the factor, from the first output."""
        found = Moments.of(y)
        if found.nonfinite:
            raise ArgumentError(
                f"lsuv_: the output of layer {self.name!r} ({type(self.layer).__name__}) has "
                f"{found.nonfinite} values that are not finite; expected an x and weights that "
                "give finite ones: initfast.profile(net, x).origin says where they come from"
            )
        self._done.stds[self.name] = found.std
        reason = self._reason(found.std)
        if reason is None and abs(found.std - 1) <= self._tolerance:
            self._done.kept.append((self.name, found.std))
            return
        reason = reason or self._scale(args, y, 1 / found.std)
        if reason is not None:
            self._done.left.append(Left(self.name, reason))
            return
        self._done.stds[self.name] = 1.0
        self._done.scaled.append(Scaled(self.name, found.std, 1 / found.std))

    def _reason(self, std: float) -> str | None:
        """Why the layer must not be scaled; None where it may."""
        owner = weighted(self.layer)
        own = [p for p in owner.parameters() if p is not None]
        if any(is_distributed(p) for p in own):
            raise ArgumentError(
                f"lsuv_: the weight of layer {self.name!r} is sharded; expected the net before "
                "that, or the same weights on every rank"
            )
        names = self._shared.get(id(owner.weight), [])
        if len(names) > 1:
            return f"its weight is {' and '.join(names)}, and scaling one would change the other"
        if any(not p.requires_grad or not p.is_floating_point() for p in own):
            return "it is frozen or quantised"
        return "its output is constant: its std is 0" if std == 0 else None

    def _scale(self, args: Any, y: Tensor, factor: float) -> str | None:
        """Have the weight and the bias scaled; or say why not."""
        owner = weighted(self.layer)
        if "weight" in owner._parameters and type(self.layer).forward in _TORCHS:
            self.factor, self.waiting = factor, list(owner.parameters())
            return None
        before = [(p, p.clone()) for p in owner.parameters()]
        for p, saved in before:
            self._changes.add(copy_back, p, saved)
        if "weight" in owner._parameters:
            owner.weight.mul_(factor)
        elif "weight_g" in owner._parameters:  # an older weight_norm's hook computes the weight
            owner.weight_g.mul_(factor)
        elif "weight" not in vars(owner):  # a parametrization finds what gives it
            owner.weight = owner.weight * factor
        for hook in owner._forward_pre_hooks.values():  # those that compute it do so anew
            if hasattr(hook, "compute_weight"):
                hook(owner, args)
        if isinstance(getattr(owner, "bias", None), Tensor):
            owner.bias.mul_(factor)
        again, wanted = self.layer.forward(*args), y * factor
        if isinstance(again, Tensor) and (again - wanted).norm() <= _SAME * wanted.norm():
            y.mul_(factor)
            return None
        for p, saved in before:
            copy_back(p, saved)
        return "its output does not scale with its weight"
