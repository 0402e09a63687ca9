"""lsuv_(): scale each layer's weight, in one forward, so that its output has unit variance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from initfast.errors import ArgumentError, kind_of
from initfast.init.orthogonal import orthogonal_
from initfast.init.placement import is_distributed
from initfast.profiling import compiled
from initfast.profiling.preconditions import check_ready
from initfast.profiling.profile import call_on
from initfast.profiling.restore import put_back_later
from initfast.repair.filling import copy_back
from initfast.repair.initialized import Left
from initfast.repair.roles import is_linear, plain_name
from initfast.stats.moments import Moments
from initfast.stats.text import number, shown
from initfast.undo_log import UndoLog, with_undo_log

_CONVOLUTIONS = nn.modules.conv._ConvNd
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


class Scaled(NamedTuple):
    """A layer whose weight, and bias, was scaled.

    name: of the layer. before: the std of its output. factor: what its weight was multiplied by.
    """

    name: str
    before: float
    factor: float


@dataclass(frozen=True)
class Rescaled:
    """What :func:`initfast.lsuv_` has done, to print.

    Attributes:
        scaled: the layers that were scaled, in the order of the forward.
        kept: those whose output had a std within the tolerance, with it.
        left: those that were not scaled, and why.
    """

    scaled: list[Scaled] = field(default_factory=list)
    kept: list[tuple[str, float]] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{s.name}: std {number(s.before)}, weight times {s.factor:.4g}" for s in self.scaled
        ]
        lines += [f"{name}: std {number(std)}, kept" for name, std in self.kept]
        lines += [f"left: {item.name}: {item.reason}" for item in self.left]
        return shown("\n".join(lines))


def lsuv_(
    net: nn.Module, x: Any, *, orthonormal: bool = False, tolerance: float = 0.05
) -> Rescaled:
    """Scale the weight and bias of each layer so that the std of its output on x is 1.

    The output is scaled on the spot with the weight that made it, so that one forward does what
    would otherwise take one or more for each layer. Linear layers, convolutions, transposed ones
    and attention's output projections are scaled, in evaluation mode. A layer that runs again is
    scaled at its first call; a weight that several layers have is not scaled, since scaling one
    would change another that has run. Residual sums add up what the scaled layers make.

    Args:
        net: a module.
        x: a batch, as :func:`initfast.profile` takes it.
        orthonormal: fill the weights with orthogonal matrices first, and the biases with zeros, as
            the paper does; keys come from torch's default CPU generator.
        tolerance: by so much may a std be off 1 and be kept. (The paper's code has 0.1.)

    Returns:
        :class:`Rescaled`: the layers scaled, kept and left, with the reasons.

    Raises:
        ArgumentError: a ValueError. No layer to scale; a layer's output on x is not finite; a
            negative tolerance; a net whose parameters are sharded.
        Exception: what the forward raises. Whatever it is, and whenever it is interrupted, every
            parameter is as it was.

    Source:
        Mishkin & Matas 2016, "All you need is a good init".

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
        >>> x = torch.randn(128, 64)
        >>> [layer.name for layer in initfast.lsuv_(net, x).scaled]
        ['0', '2']
        >>> round(net(x).std().item(), 3)
        1.0
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net is {kind_of(net)}; expected a torch.nn.Module")
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise ArgumentError(f"tolerance is {tolerance}; expected a number, not negative")
    layers = _layers(net)
    if not layers:
        raise ArgumentError(f"net, a {type(net).__name__}, has no linear layer or convolution")
    check_ready(list(net.named_modules()))
    with torch.no_grad():
        return with_undo_log(partial(_scale_all, net, x, layers, orthonormal, tolerance))


def _layers(net: nn.Module) -> dict[str, nn.Module]:
    """The layers to scale, by their names; attention stands for its output projection."""
    inside = {id(m.out_proj) for m in net.modules() if isinstance(m, nn.MultiheadAttention)}
    found = {}
    for name, m in net.named_modules():
        is_layer = isinstance(m, _CONVOLUTIONS) or is_linear(m)
        if is_layer and id(m) not in inside and isinstance(_weighted(m).weight, Tensor):
            found[plain_name(name + ".")[:-1]] = m
    return found


def _weighted(layer: nn.Module) -> Any:
    """The module that has the weight to scale."""
    return layer.out_proj if isinstance(layer, nn.MultiheadAttention) else layer


def _scale_all(
    net: nn.Module,
    x: Any,
    layers: dict[str, nn.Module],
    orthonormal: bool,
    tolerance: float,
    log: UndoLog,
) -> Rescaled:
    done = Rescaled()
    changes, running = UndoLog(), UndoLog()
    log.add(changes.undo)
    log.add(running.undo)
    shared = _shared(net)
    if orthonormal:
        for name, layer in layers.items():
            _make_orthonormal(name, layer, changes)
    hooks = [_Hook(name, m, shared, tolerance, done, changes) for name, m in layers.items()]
    _prepare(net, running)
    for hook in hooks:
        handle = hook.layer.register_forward_hook(hook)
        running.add(handle.remove)
    call_on(net, x)
    running.undo()
    # One call of torch's, which no interrupt cuts in two: so nothing need be saved for it.
    pairs = [(p, hook.factor) for hook in hooks for p in hook.waiting]
    if pairs:
        torch._foreach_mul_([p for p, _ in pairs], [factor for _, factor in pairs])
    changes.keep()
    for hook in hooks:
        if not hook.calls:
            done.left.append(Left(hook.name, "it was not called as a module"))
        elif hook.calls > 1:
            done.left.append(Left(hook.name, f"called {hook.calls} times, scaled at the first"))
    return done


def _prepare(net: nn.Module, log: UndoLog) -> None:
    """Evaluation mode, every layer called by itself, and what the forward writes put back."""
    compiled.run_eagerly(log)
    for module in net.modules():
        log.add(setattr, module, "training", module.training)
    log.add(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
    net.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    put_back_later(list(net.modules()), log)


def _shared(net: nn.Module) -> dict[int, list[str]]:
    """The names of every parameter in the modules that have it, by its id."""
    names: dict[int, list[str]] = {}
    for path, module in net.named_modules():  # each once, so that a shared layer is one
        for key, p in module._parameters.items():
            if p is not None:
                names.setdefault(id(p), []).append(plain_name(f"{path}.{key}" if path else key))
    return names


def _make_orthonormal(name: str, layer: nn.Module, changes: UndoLog) -> None:
    """As the paper's code: all weights of the layer orthogonal, its biases zero."""
    own: list[nn.Module] = [layer, _weighted(layer)]
    for p in dict.fromkeys(p for m in own for p in m._parameters.values()):
        if p is None or not p.requires_grad or not p.is_floating_point():
            continue
        changes.add(copy_back, p, p.clone())
        if p.dim() > 1:
            orthogonal_(p)
        else:
            p.zero_()


class _Hook:
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
        reason = self._reason(found.std)
        if reason is None and abs(found.std - 1) <= self._tolerance:
            self._done.kept.append((self.name, found.std))
            return
        reason = reason or self._scale(args, y, 1 / found.std)
        if reason is not None:
            self._done.left.append(Left(self.name, reason))
            return
        self._done.scaled.append(Scaled(self.name, found.std, 1 / found.std))

    def _reason(self, std: float) -> str | None:
        """Why the layer must not be scaled; None where it may."""
        owner = _weighted(self.layer)
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
        owner = _weighted(self.layer)
        if "weight" in owner._parameters and type(self.layer).forward in _TORCHS:
            self.factor, self.waiting = factor, list(owner.parameters())
            return None
        before = [(p, p.clone()) for p in owner.parameters()]
        for p, saved in before:
            self._changes.add(copy_back, p, saved)
        if "weight" in owner._parameters:
            owner.weight.mul_(factor)
        else:
            owner.weight = owner.weight * factor  # a parametrization finds what gives it
        if isinstance(getattr(owner, "bias", None), Tensor):
            owner.bias.mul_(factor)
        again, wanted = self.layer.forward(*args), y * factor
        if isinstance(again, Tensor) and (again - wanted).norm() <= _SAME * wanted.norm():
            y.mul_(factor)
            return None
        for p, saved in before:
            copy_back(p, saved)
        return "its output does not scale with its weight"
