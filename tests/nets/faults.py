"""Faults put into healthy nets: what is changed, where, and what a diagnosis must say of it.

A mutant counts where the fault does harm, told without the library that is tested: the net's
output, or the gradients of its parameters, change by a factor, become constant or vanish.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initfast.nets.pytree import tensors

HARM = 30.0
"""By this factor outputs or gradients must change for a fault to count."""

EXPLODES = frozenset(
    "explosion weight_scale saturation gradient_explosion non_finite recurrent".split()
)
VANISHES = frozenset(
    (
        *("vanishing", "gradient_vanishing", "weight_scale", "collapse"),
        *("no_gradient", "constant_output", "recurrent"),
    )
)
DEAD = frozenset(("dead_units", "collapse", "constant_output", "no_gradient"))


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: of the kind.
        put: changes the net in place; returns the names of the modules at fault, all if empty, or
            None where it has no place for the fault.
        causes: the rules, one of which must be that of a finding.
    """

    name: str
    put: Callable[[nn.Module], Sequence[str] | None]
    causes: frozenset[str]


def weighted(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The linear layers and convolutions with a weight of their own."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return [
        (n, m)
        for n, m in net.named_modules()
        if isinstance(m, kinds) and isinstance(m._parameters.get("weight"), nn.Parameter)
    ]


def weights(net: nn.Module) -> list[nn.Parameter]:
    """Those of linear layers, convolutions and recurrent modules."""
    found = [module.weight for _, module in weighted(net)]
    recurrent = [m for m in net.modules() if isinstance(m, nn.RNNBase)]
    return found + [p for m in recurrent for n, p in m.named_parameters() if "weight" in n]


def scaled(factor: float) -> Callable[[nn.Module], Sequence[str] | None]:
    def put(net: nn.Module) -> Sequence[str]:
        for weight in weights(net):
            weight.mul_(factor)
        return ()

    return put


def one_scaled(factor: float) -> Callable[[nn.Module], Sequence[str] | None]:
    def put(net: nn.Module) -> Sequence[str] | None:
        layers = weighted(net)
        if len(layers) < 3:
            return None
        name, module = layers[len(layers) // 2]
        module.weight.mul_(factor)
        return [name]

    return put


def dead_relu(net: nn.Module) -> Sequence[str] | None:
    """The bias of a layer before a ReLU at -100 times its weights' deviation."""
    modules = [(n, m) for n, m in net.named_modules() if not list(m.children())]
    for (name, module), (_, after) in itertools.pairwise(modules):
        has_bias = getattr(module, "bias", None) is not None
        if isinstance(after, nn.ReLU) and has_bias and isinstance(module.weight, Tensor):
            fan = max(module.weight[0].numel(), 1)
            module.bias.fill_(-20.0 * (1 + math.sqrt(fan) * float(module.weight.abs().mean())))
            return [name]
    return None


def by_rows(net: nn.Module) -> Sequence[str] | None:
    """1 / √(channels in) of a convolution, which forgets its kernel's size."""
    layers = [m for _, m in weighted(net) if m.weight.dim() > 2 and m.weight[0, 0].numel() > 1]
    if len(layers) < 5:
        return None
    for module in layers:
        nn.init.normal_(module.weight, 0, module.weight.shape[1] ** -0.5 * 2**0.5)
    return ()


def standard_normal(net: nn.Module) -> Sequence[str]:
    for weight in weights(net):
        nn.init.normal_(weight)
    return ()


def without_norms(net: nn.Module) -> Sequence[str] | None:
    found = False
    for module in net.modules():
        for name, child in module.named_children():
            if "Norm" in type(child).__name__ and not list(child.children()):
                module._modules[name] = nn.Identity()
                found = True
    return () if found else None


def constant_norm(net: nn.Module) -> Sequence[str] | None:
    """A norm in the middle with a weight of zero."""
    norms = [
        (n, m)
        for n, m in net.named_modules()
        if "Norm" in type(m).__name__ and isinstance(m._parameters.get("weight"), nn.Parameter)
    ]
    if not norms:
        return None
    name, module = norms[-1]
    module.weight.zero_()
    return [name]


def symmetric(net: nn.Module) -> Sequence[str] | None:
    """Every weight of two layers in the middle is the same number."""
    layers = weighted(net)
    if len(layers) < 4:
        return None
    at = len(layers) // 2
    for _, module in layers[at : at + 2]:
        module.weight.fill_(float(module.weight.std()))
    return [name for name, _ in layers[at : at + 2]]


def xavier(net: nn.Module) -> Sequence[str] | None:
    """Half of what ReLU needs, or of tanh: as much as SIREN does not."""
    layers = weighted(net)
    if len(layers) < 8 or any("Norm" in type(m).__name__ for m in net.modules()):
        return None
    for _, module in layers:
        nn.init.xavier_uniform_(module.weight, 0.5)
    return ()


def dead_recurrence(factor: float) -> Callable[[nn.Module], Sequence[str] | None]:
    def put(net: nn.Module) -> Sequence[str] | None:
        for name, module in net.named_modules():
            if isinstance(module, nn.RNNBase):
                for key, p in module.named_parameters():
                    if "weight_hh" in key:
                        p.mul_(factor)
                return [name]
        return None

    return put


FAULTS = (
    Fault("all weights times 30", scaled(30.0), EXPLODES),
    Fault("all weights times 1/1000", scaled(1e-3), VANISHES),
    Fault("one layer times 1000", one_scaled(1e3), EXPLODES),
    Fault("one layer times 1e-4", one_scaled(1e-4), VANISHES),
    Fault("dead ReLUs by their bias", dead_relu, DEAD),
    Fault("a fan without the kernel", by_rows, EXPLODES),
    Fault("N(0, 1)", standard_normal, EXPLODES),
    Fault("no norms", without_norms, EXPLODES | VANISHES),
    Fault("a norm whose weight is zero", constant_norm, DEAD | VANISHES),
    Fault("constant weights", symmetric, frozenset(("symmetric_units",))),
    Fault("a quarter of Xavier's variance", xavier, VANISHES),
    Fault("recurrent weights times 30", dead_recurrence(30.0), EXPLODES),
)


# ---- what a fault does, by torch alone ----


def distance(output: Any) -> Tensor:
    """A loss for any output: the mean square distance of its floating tensors from fixed noise."""
    made = [t for _, t in tensors(output) if t.is_floating_point() and t.requires_grad]
    noise = torch.Generator().manual_seed(3)
    terms = [(t.float() - torch.randn(t.shape, generator=noise)).square().mean() for t in made[:3]]
    return sum(terms[1:], terms[0])


def run(net: nn.Module, x: Any) -> Any:
    if isinstance(x, tuple):
        return net(*x)
    return net(**x) if isinstance(x, dict) else net(x)


def effect(net: nn.Module, x: Any) -> dict[str, float]:
    """The output's scale and spread over the samples; the gradients' median and largest norm."""
    net = copy.deepcopy(net)
    output = run(net, x)
    first = next(t for _, t in tensors(output) if t.is_floating_point())
    loss = distance(output)
    parameters = [p for p in net.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    norms = sorted(
        float(g.norm())
        for p, g in zip(parameters, grads, strict=True)
        if g is not None and p.dim() > 1
    )
    spread = first.detach().double().flatten(1).std(0).mean() if first.shape[0] > 1 else first.std()
    return {
        "scale": float(first.detach().double().std()),
        "spread": float(spread),
        "median": norms[len(norms) // 2],
        "most": norms[-1],
    }


def does_harm(before: dict[str, float], after: dict[str, float]) -> bool:
    """Whether an effect has changed by a factor of HARM, either way, or is not finite."""
    for key, b in before.items():
        a = after[key]
        if not math.isfinite(a) or (b > 0 and not 1 / HARM < a / b < HARM):
            return True
    return False
