"""Other forwards for torch's own modules, for as long as a profile runs.

What a module and its functions cost in Python exceeds what a small layer costs in arithmetic. A
forward given here does what the module's own does; where anybody could tell the difference (a
subclass, a hook, a forward of its own, a trace), the module is called as it is.

It stands where ``torch.compile`` puts a compiled call: copies and pickles of a module leave that
out by themselves. A copy made by hand, of the attributes, has it too; there it does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from torch import nn
from torch.nn.modules import module as module_hooks

from initfast.torch_state import is_traced

User = TypeVar("User")
Measure = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]

CALL = "_compiled_call_impl"
"""What nn.Module's __call__ calls where it is set; torch neither copies nor pickles it."""

_CALL_IMPL = nn.Module._call_impl


def _nothing(*arguments: Any) -> None:
    """Measure nothing."""


class Forward(Generic[User]):
    """What runs when one module is called. After the profile that is the module's own again.

    Args:
        module: whose forward it is.
        user: the part of the profile that gave it; None once that has ended.
        measure: what is called with the module, its arguments and its output.
    """

    before = None  # nothing compiled

    def __init__(self, module: nn.Module, user: User, measure: Measure = _nothing) -> None:
        self.module = module
        self.user: User | None = user
        self.measure = measure
        self._kind = type(module)
        self._forward = self._kind.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns."""
        module, user = self.module, self.user
        called = sys._getframe(1).f_locals.get("self")  # by nn.Module.__call__
        if called is not module:
            return self._owner(called)._call_impl(*args, **kwargs)
        kind = self._kind
        if (
            user is None
            or type(module) is not kind
            or kind.forward is not self._forward
            or kind._call_impl is not _CALL_IMPL
            or not is_bare(module)
            or module_hooks._has_any_global_hook()
            or is_traced()
        ):
            return self.otherwise(user, args, kwargs)
        return self.forward(user, args, kwargs)

    def forward(self, user: User, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module's own forward returns, measured; nobody watches the module."""
        raise NotImplementedError

    def otherwise(self, user: User | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Likewise, by calling the module as it is."""
        y = self.module._call_impl(*args, **kwargs)
        if user is not None:
            self.measure(self.module, args, kwargs, y)
        return y

    def plainly(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's own."""
        return self._forward(self.module, *args, **kwargs)

    def _owner(self, called: Any) -> nn.Module:
        """The copy that has this forward too, if it is that which is called."""
        is_copy = isinstance(called, nn.Module) and called.__dict__.get(CALL) is self
        return called if is_copy else self.module


def install(forward: Forward[Any]) -> None:
    """Give its module this forward."""
    forward.module.__dict__[CALL] = forward


def release(forwards: Iterable[Forward[Any]]) -> None:
    """Give the modules their own forwards back."""
    for forward in forwards:
        forward.user, forward.measure = None, _nothing
        own = forward.module.__dict__
        if own.get(CALL) is forward:  # and not what the net has put there meanwhile
            del own[CALL]


@contextmanager
def installed(forwards: Iterable[Forward[Any]]) -> Iterator[None]:
    """The modules have these forwards for as long as this lasts."""
    forwards = list(forwards)
    try:
        for forward in forwards:
            install(forward)
        yield
    finally:
        release(forwards)


def takes_another(module: nn.Module, kind: type[nn.Module], forward: Any) -> bool:
    """Whether it is a module of exactly this kind, and runs this forward of its class."""
    if type(module) is not kind or kind.forward is not forward:
        return False
    own = module.__dict__
    return own.get(CALL) is None and "forward" not in own


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
