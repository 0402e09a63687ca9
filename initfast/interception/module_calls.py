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
from threading import Lock, get_ident
from typing import Any

from torch import nn

from initfast.interception.hooks import GLOBAL_HOOKS, has_hooks_around, is_bare
from initfast.nets.activation_calls import MODULES
from initfast.nets.names import NetNames
from initfast.torch_state import is_traced

CALL = "_compiled_call_impl"
"""What nn.Module's __call__ calls where it is set; torch neither copies nor pickles it."""

MISSED = object()
"""What a shorter way returns that was not gone."""

TORCHS_CALL = nn.Module.__call__
_CALL_IMPL = nn.Module._call_impl
_ACTIVATIONS = {kind.forward for kind in MODULES}
_LOCK = Lock()  # of the calls that modules have


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
    """What runs when one module is called, from when it is installed until it is released.

    Of a module with several the last installed runs first; they are released in any order, in any
    thread. A copy of the attributes that hold one holds one that does nothing, a pickle None.

    Args:
        module: whose call it is.
    """

    __slots__ = ("before", "module")
    _NO_MODULE = nn.Module()

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.before: Any = None

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
        if isinstance(before, ReplacedCall):
            return before.run(args, kwargs)
        return before(*args, **kwargs)

    def end(self) -> None:
        """Add nothing to the module's own call from now on: it has been released."""

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplacedCall:
        """What a copy of all of a module's attributes gets: a call that does nothing."""
        copied: ReplacedCall = object.__new__(type(self))
        copied.module, copied.before = self._NO_MODULE, None
        return copied

    def __reduce__(self) -> Any:
        return type(None), ()


class ModuleCall(ReplacedCall):
    """What runs in the place of one module's call while its net is profiled.

    Args:
        module: whose call it is.
        name: its path in the net.
        running: the calls that run.
        after: has what a call returns measured.
        short: a shorter way, which returns :data:`MISSED` where it was not gone; None without one.

    Attributes:
        is_activation: whether the module is one of torch's activations.
    """

    __slots__ = ("_forward", "_running", "_type", "after", "is_activation", "name", "short")

    def __init__(
        self, module: nn.Module, name: str, running: Running, after: After, short: Short | None
    ) -> None:
        self.module = module  # not by super(): there is one for every module of a net
        self.before = None
        self.name = name
        self.after = after
        self.short = short
        self._running: Running | None = running
        self._type = type(module)
        self._forward = self._type.forward
        self.is_activation = self._forward in _ACTIVATIONS

    @property
    def kind(self) -> str:
        """The name of the module's type: a lazy module becomes another when it first runs."""
        return type(self.module).__name__

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns."""
        running = self._running
        if running is None:
            return self.as_before(args, kwargs)
        if running.thread != get_ident():
            return self._measured(args, kwargs)
        stack = running.stack
        stack.append(self)
        try:
            if self.short is not None and self._is_unwatched():
                y = self.short(self, args, kwargs)
                if y is not MISSED:
                    return y
            return self._measured(args, kwargs)
        finally:
            stack.pop()

    def end(self) -> None:
        """Do nothing from now on, and keep nothing: a copy of the module may keep this."""
        self._running, self.after, self.short = None, measure_nothing, None

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplacedCall:
        copied: Any = super().__deepcopy__(memo)
        copied._running, copied.after, copied.short = None, measure_nothing, None
        return copied

    def unless_running(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """A forward hook, for a module whose class may go past this call."""
        running = self._running
        if running is not None and not (running.stack and running.stack[-1] is self):
            self.after(self, args, kwargs, output)

    def _measured(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns, measured: its forward's arguments and its forward's output.

        Where hooks change these on the way, a hook that runs after the user's sees them.
        """
        if not has_hooks_around(self.module):
            y = self.as_before(args, kwargs)
            self.after(self, args, kwargs, y)
            return y

        handle = self.module.register_forward_hook(self._see, with_kwargs=True)
        try:
            return self.as_before(args, kwargs)
        finally:
            handle.remove()

    def _see(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """A forward hook."""
        self.after(self, args, kwargs, output)

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
            and not any(GLOBAL_HOOKS)
            and not is_traced()
        )


def install(calls: Iterable[ReplacedCall]) -> None:
    """Put each in the place of its module's call, until it is released."""
    with _LOCK:
        for call in calls:
            own = call.module.__dict__
            before = own.get(CALL)
            # A copy may have its original's, which would run the original.
            is_anothers = isinstance(before, ReplacedCall) and before.module is not call.module
            call.before = None if is_anothers else before
            own[CALL] = call


def release(calls: Iterable[ReplacedCall]) -> None:
    """End each, take its own hooks off, and give its place back to the call that was there before.

    What the net itself has put there meanwhile stays; so does all where none was installed.
    """
    with _LOCK:
        for call in calls:
            call.end()
            module, own = call.module, call.module.__dict__
            for i, hook in list(module._forward_hooks.items()) if module._forward_hooks else ():
                if getattr(hook, "__self__", None) is call:
                    module._forward_hooks_with_kwargs.pop(i, None)
                    module._forward_hooks.pop(i, None)
            top = own.get(CALL)
            if top is call:
                if call.before is None:
                    del own[CALL]
                else:
                    own[CALL] = call.before
                continue
            while isinstance(top, ReplacedCall):
                if top.before is call:
                    top.before = call.before
                top = top.before


def measure_nothing(*arguments: Any) -> None:
    """Measure nothing."""
