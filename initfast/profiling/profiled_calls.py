"""What runs in the place of a net's call, or of a method of it, while a Profiler is active."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from types import MethodType
from typing import Any, Protocol

from torch import nn

from initfast.interception.module_calls import ReplacedCall, install, release


class ProfiledCall(Protocol):
    """The call or the method that a Profiler measures; several may stand before one another."""

    def install(self) -> None:
        """Stand in its place."""

    def release(self) -> None:
        """Give its place back, in any order with others; do nothing from now on."""

    def as_before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What it returns without this."""


Profiled = Callable[[ProfiledCall, tuple[Any, ...], dict[str, Any]], Any]


class NetCall(ReplacedCall):
    """The call of a net."""

    __slots__ = ("_profiled",)

    def __init__(self, net: nn.Module, profiled: Profiled) -> None:
        super().__init__(net)
        self._profiled: Profiled | None = profiled

    def install(self) -> None:
        """Likewise."""
        install([self])

    def release(self) -> None:
        """Likewise."""
        release([self])

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the net returns."""
        profiled = self._profiled
        return profiled(self, args, kwargs) if profiled else self.as_before(args, kwargs)

    def end(self) -> None:
        """Measure nothing from now on."""
        self._profiled = None


class MethodCall:
    """A method of a module, in whose attributes this stands: `net.encode(x)` finds it there.

    Copies and pickles of the module have the method itself there.

    Args:
        method: a bound method of a module, found there under its own name.
        profiled: is called in its place.

    Attributes:
        method: likewise.
    """

    def __init__(self, method: MethodType, profiled: Profiled) -> None:
        self.method = method
        self._module: Any = method.__self__
        self._name = method.__name__
        self._before: Any = None  # what stood there; the method of the class where None
        self._profiled: Profiled | None = profiled

    @property
    def __self__(self) -> Any:
        """The module, as of a bound method."""
        return self._module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the method returns."""
        profiled = self._profiled
        return profiled(self, args, kwargs) if profiled else self.as_before(args, kwargs)

    def as_before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Likewise."""
        before = self._before
        return (self._of(self._module) if before is None else before)(*args, **kwargs)

    def _of(self, module: nn.Module) -> Any:
        """The method that a module's class gives it."""
        return MethodType(getattr(type(module), self._name), module)

    def install(self) -> None:
        """Likewise."""
        with _LOCK:
            self._before = self._module.__dict__.get(self._name)
            self._module.__dict__[self._name] = self

    def release(self) -> None:
        """Likewise; what the net itself has put there meanwhile stays."""
        with _LOCK:
            self._profiled = None
            own = self._module.__dict__
            top = own.get(self._name)
            if top is self:
                if self._before is None:
                    del own[self._name]
                else:
                    own[self._name] = self._before
            while isinstance(top, MethodCall):
                if top._before is self:
                    top._before = self._before
                top = top._before

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._of(memo.get(id(self._module), self._module))

    def __reduce__(self) -> Any:
        return getattr, (self._module, self._name)


_LOCK = Lock()  # of the methods that modules have
