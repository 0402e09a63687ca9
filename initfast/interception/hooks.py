"""Which hooks a module has, of its own and of all modules."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules import module as module_hooks

_GLOBAL_HOOKS_AROUND = (
    module_hooks._global_forward_pre_hooks,
    module_hooks._global_backward_pre_hooks,
    module_hooks._global_backward_hooks,
)
GLOBAL_HOOKS = (*_GLOBAL_HOOKS_AROUND, module_hooks._global_forward_hooks)
"""All that run with every module's forward."""


def has_hooks_around(module: nn.Module) -> bool:
    """Whether hooks may change what the forward gets, or wrap what it returns for a backward."""
    return bool(
        module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or any(_GLOBAL_HOOKS_AROUND)
    )


def hooked(modules: Iterable[nn.Module]) -> bool:
    """Whether hooks of modules look at gradients: they take a module's results for tensors."""
    everywhere = module_hooks._global_backward_hooks or module_hooks._global_backward_pre_hooks
    return bool(everywhere) or any(m._backward_hooks or m._backward_pre_hooks for m in modules)


def is_bare(module: nn.Module) -> bool:
    """Whether nothing but the forward of its class runs when a module is called."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )
