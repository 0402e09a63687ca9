"""One call in the place of every module's, for as long as a profile runs.

It runs the module as it is, hooks included, then has what came out measured; and it keeps the stack
of the modules that run. Where nobody can tell the difference it goes a shorter way: what a small
module and its functions cost in Python exceeds what they cost in arithmetic.

It stands where ``torch.compile`` puts a compiled call: copies and pickles of a module leave that
out by themselves. A copy made by hand, of the attributes, has it too; there it does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Any

from torch import nn
from torch.nn.modules import module as module_hooks

from initfast.nets.activation_calls import MODULES
from initfast.nets.names import NetNames
from initfast.torch_state import is_traced

CALL = "_compiled_call_impl"
"""What nn.Module's __call__ calls where it is set; torch neither copies nor pickles it."""

MISSED = object()
"""What a shorter way returns that was not gone."""

_CALL_IMPL = nn.Module._call_impl
_ACTIVATIONS = {kind.forward for kind in MODULES}


class Running:
    """The calls that run now, in the thread of the profile.

    Args:
        names: of the net's modules.

    Attributes:
        stack: the calls, the innermost last.
        thread: the one that they run in.
    """

    def __init__(self, names: NetNames) -> None:
        self.stack: list[ModuleCall] = []
        self.thread = get_ident()
        self._names = names

    def name(self) -> str:
        """The path of the innermost module; without one the root's, or else a number."""
        if self.stack:
            return self.stack[-1].name
        return self._names.number() if self._names.is_callable else ""

    def activation(self) -> str | None:
        """The path of the innermost module if it is an activation; None otherwise."""
        if self.stack and (call := self.stack[-1]).is_activation:
            return call.name
        return None


Short = Callable[["ModuleCall", tuple[Any, ...], dict[str, Any]], Any]
After = Callable[["ModuleCall", tuple[Any, ...], dict[str, Any], Any], None]


class ReplacedCall:
    """What runs when one module is called, until it is released.

    Args:
        module: whose call it is.
    """

    __slots__ = ("before", "is_active", "module")

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.before: Any = module.__dict__.get(CALL)
        self.is_active = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns."""
        called: Any = sys._getframe(1).f_locals.get("self")  # by nn.Module.__call__
        if called is self.module:
            return self.run(args, kwargs)
        is_copy = isinstance(called, nn.Module) and called.__dict__.get(CALL) is self
        owner = called if is_copy else self.module
        return owner._call_impl(*args, **kwargs)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Likewise, whoever calls."""
        raise NotImplementedError

    def as_before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run what would run without this call: hooks and forward, or an earlier replaced call."""
        before = self.before
        if before is None:
            return self.module._call_impl(*args, **kwargs)
        return (
            before.run(args, kwargs)
            if isinstance(before, ReplacedCall)
            else before(*args, **kwargs)
        )

    def install(self) -> None:
        """Take the place of the module's call."""
        self.module.__dict__[CALL] = self

    def release(self) -> None:
        """Do nothing any more, and give the module the call back that it had before."""
        self.is_active = False
        own = self.module.__dict__
        while isinstance(top := own.get(CALL), ReplacedCall) and not top.is_active:
            if top.before is None:
                del own[CALL]
            else:
                own[CALL] = top.before


class ModuleCall(ReplacedCall):
    """What runs in the place of one module's call while its net is profiled.

    Args:
        module: whose call it is.
        name: its path in the net.
        running: the calls that run.
        after: has what a call returns measured.
        short: a shorter way, which returns :data:`MISSED` where it was not gone; None without one.

    Attributes:
        kind: the name of the module's type.
        is_activation: whether that is one of torch's activations.
    """

    __slots__ = (
        "_forward",
        "_running",
        "_type",
        "after",
        "is_activation",
        "kind",
        "name",
        "short",
    )

    def __init__(
        self, module: nn.Module, name: str, running: Running, after: After, short: Short | None
    ) -> None:
        super().__init__(module)
        self.name = name
        self.after = after
        self.short = short
        self._running = running
        self._type = type(module)
        self._forward = self._type.forward
        self.kind = self._type.__name__
        self.is_activation = self._forward in _ACTIVATIONS

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns."""
        if not self.is_active:
            return self.as_before(args, kwargs)
        running = self._running
        if running.thread != get_ident():
            y = self.as_before(args, kwargs)
        else:
            stack = running.stack
            stack.append(self)
            try:
                if self.short is not None and self._is_unwatched():
                    y = self.short(self, args, kwargs)
                    if y is not MISSED:
                        return y
                y = self.as_before(args, kwargs)
            finally:
                stack.pop()
        self.after(self, args, kwargs, y)
        return y

    def forward(self, *args: Any) -> Any:
        """What the forward of the module's class returns."""
        return self._forward(self.module, *args)

    def _is_unwatched(self) -> bool:
        """Whether the forward of the module's class is all that runs, and nobody looks at it."""
        module, kind = self.module, self._type
        return (
            type(module) is kind
            and kind.forward is self._forward
            and kind._call_impl is _CALL_IMPL
            and self.before is None
            and is_bare(module)
            and not module_hooks._has_any_global_hook()
            and not is_traced()
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
