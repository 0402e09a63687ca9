"""lsuv_(): scale each layer's weight, in one forward, so that its output has unit variance."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from initfast.errors import ArgumentError, kind_of
from initfast.init.orthogonal import orthogonal_
from initfast.profiling import compiled
from initfast.profiling.preconditions import check_ready
from initfast.profiling.profile import call_on
from initfast.profiling.restore import put_back_later
from initfast.repair.filling import copy_back
from initfast.repair.initialized import Left
from initfast.repair.omegas import omegas
from initfast.repair.parameter_kinds import plain_name
from initfast.repair.rescaled import Rescaled
from initfast.repair.scale_output import ScaleOutput, weighted
from initfast.repair.slots import is_linear
from initfast.undo_log import UndoLog, with_undo_log

_CONVOLUTIONS = nn.modules.conv._ConvNd


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
        :class:`Rescaled`: the layers scaled, kept and left, with the reasons; and Admin's factors
        of a transformer's skip connections.

    Raises:
        ArgumentError: a ValueError. No layer to scale; a layer's output on x is not finite; a
            negative tolerance; a net whose parameters are sharded.
        Exception: what the forward raises. Whatever it is, and whenever it is interrupted, every
            parameter is as it was.

    Source:
        Mishkin & Matas 2016, "All you need is a good init"; the factors, Liu et al. 2020.

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
        if is_layer and id(m) not in inside and _has_weight(weighted(m)):
            found[plain_name(name + ".")[:-1]] = m
    return found


def _has_weight(layer: nn.Module) -> bool:
    """Whether it has a weight, which is not asked for: spectral_norm's would go one step on."""
    computed = layer._modules.get("parametrizations")
    if isinstance(computed, nn.ModuleDict) and "weight" in computed:
        return True
    return isinstance(layer._parameters.get("weight", vars(layer).get("weight")), Tensor)


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
    hooks = [ScaleOutput(name, m, shared, tolerance, done, changes) for name, m in layers.items()]
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
    done.omegas.update(omegas(net, done.stds))
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
    own: list[nn.Module] = [layer, weighted(layer)]
    for p in dict.fromkeys(p for m in own for p in m._parameters.values()):
        if p is None or not p.requires_grad or not p.is_floating_point():
            continue
        changes.add(copy_back, p, p.clone())
        if p.dim() > 1:
            orthogonal_(p)
        else:
            p.zero_()
