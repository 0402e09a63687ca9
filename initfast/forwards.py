"""Other forwards for torch's own modules, for as long as a profile runs.

What a module and its functions cost in Python exceeds what a small layer costs in arithmetic. A
forward given here does what the module's own does; where anybody could tell the difference (a
subclass, a forward of its own, gradients, casts), it calls that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import NoneType
from typing import Any, Generic, TypeVar

from torch import nn

User = TypeVar("User")


class Forward(Generic[User]):
    """The forward of one module. On a copy of the module, and after the profile, it is torch's own.

    Args:
        module: whose forward it is.
        user: the part of the profile that gave it; None once that has ended.
    """

    def __init__(self, module: nn.Module, user: User) -> None:
        self.module = module
        self.user: User | None = user

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module's own forward returns."""
        return self.plainly(*args, **kwargs)

    def plainly(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module's own."""
        return type(self.module).forward(self.module, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return partial(type(self.module).forward, memo.get(id(self.module), self.module))

    def __reduce__(self) -> Any:
        return partial, (type(self.module).forward, self.module)


def install(forward: Forward[Any]) -> None:
    """Give its module this forward."""
    forward.module.__dict__["forward"] = forward


def release(forwards: Iterable[Forward[Any]]) -> None:
    """Give the modules their own forwards back."""
    for forward in forwards:
        forward.user = None
        own = forward.module.__dict__
        if own.get("forward") is forward:  # and not what the net has put there meanwhile
            del own["forward"]


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


def takes_another(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module of exactly this kind runs the forward of its class."""
    return type(module) is kind and "forward" not in module.__dict__


def is_bare(module: nn.Module) -> bool:
    """Whether nothing but the module's own forward runs when it is called."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or not isinstance(module.__dict__.get("forward"), (NoneType, Forward))
    )
